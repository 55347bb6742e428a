//! Packs: what one member, operator or viewer needs, in a directory of its own.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rcgen::KeyPair;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use sitegate_host::diagnostic::Diagnostic;
use sitegate_member::config::{FormationName, MemberName, PersonName, TlsFiles};
use sitegate_member::tls::{Principal, subject_of};

use super::authority::{Authority, Issued};
use super::days::{MEMBER_DAYS, PERSON_DAYS};
use super::error::PkiError;
use super::files::{self, Readers};

/// A directory with `ca.pem`, `NAME.pem` and `NAME.key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pack {
    /// Whose it is.
    pub principal: Principal,
    /// Where it is.
    pub directory: PathBuf,
    /// When its certificate ends.
    pub not_after: SystemTime,
}

impl Pack {
    /// The files of the pack, in the form in which a daemon or client loads them.
    pub fn files(&self) -> TlsFiles {
        let [ca, cert, key] = paths(&self.directory, self.principal.name());
        TlsFiles { ca, cert, key, crl: None, strict_expiry: false }
    }
}

/// For whom certificates of a new formation are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormationCertificates {
    /// The formation.
    pub formation: FormationName,
    /// Its members.
    pub members: Vec<MemberName>,
    /// Who may give commands from afar.
    pub operators: Vec<PersonName>,
    /// How long the members' certificates are valid.
    pub member_days: u32,
    /// How long the operators' certificates are valid.
    pub operator_days: u32,
}

impl FormationCertificates {
    /// With the usual validities.
    pub fn new(formation: FormationName, members: Vec<MemberName>, operators: Vec<PersonName>) -> Self {
        Self { formation, members, operators, member_days: MEMBER_DAYS, operator_days: PERSON_DAYS }
    }

    /// Makes a CA in `pki/ca` and a pack for everybody beside it. None of these directories may be there yet.
    pub fn make(&self, pki: &Path) -> Result<(Authority, Vec<Pack>), PkiError> {
        let members = self.members.iter().map(|name| (Principal::Member(name.clone()), self.member_days));
        let operators =
            self.operators.iter().map(|name| (Principal::Operator(name.clone()), self.operator_days));
        let wanted: Vec<_> = members.chain(operators).collect();
        Authority::check_place(pki)?;
        for (principal, _) in &wanted {
            check_place(pki, principal)?;
        }
        let authority = Authority::create(pki, &self.formation)?;
        let packs = wanted.iter().map(|(principal, days)| authority.make_pack(pki, principal, *days));
        let packs = packs.collect::<Result<_, _>>()?;
        Ok((authority, packs))
    }
}

impl Authority {
    /// Issues a certificate and makes the pack for it in `pki`. There must be none yet.
    pub fn make_pack(&self, pki: &Path, principal: &Principal, days: u32) -> Result<Pack, PkiError> {
        let directory = check_place(pki, principal)?;
        let issued = self.issue(principal, days, None)?;
        files::make_directory(&directory, Readers::All)?;
        self.write_pack(&directory, principal, &issued)?;
        Ok(Pack { principal: principal.clone(), directory, not_after: issued.not_after })
    }

    /// Issues a new certificate for whoever has the one in `pack`, with a new key unless `keep_key`. The files that it
    /// replaces are kept as `.old`.
    pub fn renew_pack(&self, pack: &Path, days: Option<u32>, keep_key: bool) -> Result<Pack, PkiError> {
        let certificate_file = certificate_in(pack)?;
        let principal = self.owner_of(&certificate_file)?;
        let [_, cert, key] = paths(pack, principal.name());
        let kept_key = if keep_key { Some(read_pack_key(&key)?) } else { None };
        let days = days.unwrap_or_else(|| usual_days(&principal));
        let issued = self.issue(&principal, days, kept_key)?;
        files::keep_old(&cert, Readers::All)?;
        if !keep_key && key.exists() {
            files::keep_old(&key, Readers::Owner)?;
        }
        self.write_pack(pack, &principal, &issued)?;
        Ok(Pack { principal, directory: pack.to_owned(), not_after: issued.not_after })
    }

    fn write_pack(&self, directory: &Path, principal: &Principal, issued: &Issued) -> Result<(), PkiError> {
        let [ca, cert, key] = paths(directory, principal.name());
        files::write(&ca, self.certificate_pem(), Readers::All)?;
        if let Some(pem) = &issued.key_pem {
            files::write(&key, pem, Readers::Owner)?;
        }
        files::write(&cert, &issued.certificate_pem, Readers::All)
    }

    /// Who has the certificate in `file`, if it is of this CA's formation.
    pub(super) fn owner_of(&self, file: &Path) -> Result<Principal, PkiError> {
        let text = files::read(file, "name a pack, or a certificate in PEM form")?;
        let certificate = CertificateDer::from_pem_slice(text.as_bytes()).map_err(|error| {
            Diagnostic::of_file(file, format!("no certificate in PEM form: {error}"))
                .hint("name a pack that `sitegate pki` made")
        })?;
        let subject = subject_of(&certificate).map_err(|error| error.of_file(file))?;
        if subject.formation != *self.formation() {
            let cause = format!("this is {subject}, but the CA is that of formation {}", self.formation());
            return Err(Diagnostic::of_file(file, cause)
                .hint("name the PKI of its formation with --pki")
                .into());
        }
        Ok(subject.principal)
    }
}

/// The certificate of a pack: the one beside ca.pem.
pub(super) fn certificate_in(pack: &Path) -> Result<PathBuf, PkiError> {
    let not_a_pack = |cause: String| {
        Diagnostic::of_file(pack, cause).hint("name a directory that `sitegate pki init` or `issue` made")
    };
    let entries = pack.read_dir().map_err(|error| not_a_pack(format!("cannot be read: {error}")))?;
    let files = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let mut certificates = files.filter(|file| {
        file.extension().is_some_and(|extension| extension == "pem")
            && !matches!(file.file_name().and_then(|name| name.to_str()), Some("ca.pem" | "crl.pem"))
    });
    match (certificates.next(), certificates.next()) {
        (Some(certificate), None) => Ok(certificate),
        (None, _) => Err(not_a_pack("there is no certificate in this directory".to_owned()).into()),
        (Some(_), Some(_)) => {
            Err(not_a_pack("there are several certificates in this directory".to_owned()).into())
        }
    }
}

/// Where the pack goes, if nothing is there yet.
fn check_place(pki: &Path, principal: &Principal) -> Result<PathBuf, PkiError> {
    let directory = match principal {
        Principal::Member(name) => pki.join(name.as_str()),
        Principal::Operator(_) | Principal::Viewer(_) => {
            pki.join(format!("{}-{}", principal.kind(), principal.name()))
        }
    };
    if matches!(principal, Principal::Member(name) if name.as_str() == "ca") {
        return Err(Diagnostic::of_file(
            &directory,
            "the pack of a member named `ca` would lie where the CA is",
        )
        .hint("name the member otherwise")
        .into());
    }
    files::must_be_free(
        &directory,
        "renew the certificate with `sitegate pki renew`, or use another directory",
    )?;
    Ok(directory)
}

fn paths(directory: &Path, name: &str) -> [PathBuf; 3] {
    [directory.join("ca.pem"), directory.join(format!("{name}.pem")), directory.join(format!("{name}.key"))]
}

fn read_pack_key(file: &Path) -> Result<KeyPair, PkiError> {
    let text = files::read(file, "leave --keep-key out to make a new key")?;
    KeyPair::from_pem(&text).map_err(|error| {
        Diagnostic::of_file(file, format!("no usable private key in PEM form: {error}"))
            .hint("leave --keep-key out to make a new key")
            .into()
    })
}

pub(super) fn usual_days(principal: &Principal) -> u32 {
    match principal {
        Principal::Member(_) => MEMBER_DAYS,
        Principal::Operator(_) | Principal::Viewer(_) => PERSON_DAYS,
    }
}
