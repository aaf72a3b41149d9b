/** How long to wait before trying again. */
export interface BackoffOptions {
  /** The longest first wait, in milliseconds. */
  first: number;
  /** The longest wait of all, in milliseconds. */
  longest: number;
}

export const BACKOFF: BackoffOptions = { first: 500, longest: 30_000 };

/**
 * The wait before the next attempt after so many failures in a row, in milliseconds: it doubles, and
 * half of it is chance, so that clients that were cut together do not come back together.
 */
export function backoff(failures: number, options: BackoffOptions, chance = Math.random): number {
  const most = Math.min(options.longest, options.first * 2 ** Math.min(failures - 1, 30));
  return most * (0.5 + chance() / 2);
}
