"""The shop's cart service: what each user means to buy, in memory."""
