"""The numeric proof that the description of a family is right: small random models of it, in all their forms."""
