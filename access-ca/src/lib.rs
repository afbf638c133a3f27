//! A certificate authority for SSH and X.509: authorities, vetted issuance, key stores.
