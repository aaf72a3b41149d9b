"""Who a person is: their profile, and the session they are in. It knows no messages."""
