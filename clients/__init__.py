"""Programs and libraries that use Inglenook from outside, through its contract."""
