//! A CA for one formation, without openssl: it issues, renews, shows and revokes the certificates of members, operators
//! and viewers.
//!
//! Everything lies in one directory: `ca/` with the CA's key, which belongs on no member, and one *pack* for each
//! certificate, which is what its owner needs: `ca.pem`, `NAME.pem` and `NAME.key`.
//!
//! Keys are ECDSA on P-256 with SHA-256 rather than Ed25519: TLS libraries, browsers, smart cards and FIPS-bound hosts all
//! take them, so an operator's certificate works wherever it is carried, and a CA outlives many of those.

mod authority;
mod cli;
mod days;
mod error;
mod files;
mod pack;
mod revoke;
mod show;

pub use authority::Authority;
pub use cli::{InitArgs, IssueArgs, PkiCommand, RenewArgs, RevokeArgs, ShowArgs, run};
pub use days::{CA_DAYS, DAYS_MAX, MEMBER_DAYS, PERSON_DAYS};
pub use error::PkiError;
pub use pack::{FormationCertificates, Pack};
pub use show::{Shown, ShownKey};
