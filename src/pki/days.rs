//! How long certificates are valid.

/// How long a CA is valid, in days: 20 years. Replacing it touches every host.
pub const CA_DAYS: u32 = 7305;
/// How long a member's certificate is valid, in days: 5 years. Warnings begin 60 days before its end.
pub const MEMBER_DAYS: u32 = 1826;
/// How long the certificate of an operator or viewer is valid, in days: a year. It ends for real.
pub const PERSON_DAYS: u32 = 365;
/// The longest that can be asked for, in days: what a CA is valid for.
pub const DAYS_MAX: u32 = CA_DAYS;
