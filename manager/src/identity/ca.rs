//! The cluster's certificate authority: its root, and what it signs.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
    date_time_ymd,
};
use skep_proto::token::root_digest;
use skep_proto::transport::{CERT_BACKDATE_NS, PeerRole};
use skep_proto::v1::RootCa;
use skep_proto::{Error, Result};

use super::random::random_bytes;

/// The root's common name, and a name that managers go by besides their role.
pub const ROOT_NAME: &str = "swarm-ca";
const ROOT_EXPIRY_NS: i64 = 20 * 365 * 24 * 3600 * 1_000_000_000;
/// A request for a certificate is a key and a name: 8 KiB are plenty.
const CSR_BYTES_MAX: usize = 8 << 10;

/// A request for a certificate whose signature proves that the asker has the
/// key. Only the key is used: what it says of itself counts for nothing.
pub struct Csr(CertificateSigningRequestParams);

impl Csr {
    /// Reads one from the wire.
    pub fn parse(pem: &[u8]) -> Result<Self> {
        let wrong = |message: String| {
            Error::invalid("csr_pem", message)
                .hint("send a PKCS#10 request in PEM, signed with an ECDSA P-256 key")
        };
        if pem.is_empty() {
            return Err(wrong("is empty".to_owned()));
        }
        if pem.len() > CSR_BYTES_MAX {
            return Err(wrong(format!(
                "has {} bytes; at most {CSR_BYTES_MAX} are taken",
                pem.len()
            )));
        }
        let text = std::str::from_utf8(pem).map_err(|_| wrong("is not PEM text".to_owned()))?;
        let csr = CertificateSigningRequestParams::from_pem(text)
            .map_err(|e| wrong(format!("is not a usable certificate request: {e}")))?;
        if csr.public_key.algorithm() != &rcgen::PKCS_ECDSA_P256_SHA256 {
            return Err(wrong(
                "has a key of another kind than ECDSA P-256".to_owned(),
            ));
        }
        Ok(Self(csr))
    }

    /// The public key: who asks with the same one is the same asker.
    pub fn public_key(&self) -> &[u8] {
        use rcgen::PublicKeyData;
        self.0.public_key.der_bytes()
    }
}

/// What a certificate says of its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// CN: a node's id or an operator's name.
    pub name: String,
    /// OU.
    pub role: PeerRole,
    /// O.
    pub cluster_id: String,
}

/// The root and its key.
pub struct RootAuthority {
    root: RootCa,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for RootAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RootAuthority")
            .field("digest", &self.root.digest)
            .finish_non_exhaustive()
    }
}

fn cannot(what: &str) -> impl Fn(rcgen::Error) -> Error {
    let what = what.to_owned();
    move |e| Error::internal(format!("cannot {what}: {e}"))
}

impl RootAuthority {
    /// A new root, valid for 20 years from `now_ns`.
    pub fn generate(now_ns: i64) -> Result<Self> {
        let key = KeyPair::generate().map_err(cannot("make the root's key"))?;
        let params = root_params(now_ns)?;
        let certificate = params
            .self_signed(&key)
            .map_err(cannot("sign the root certificate"))?;
        let cert_pem = certificate.pem().into_bytes();
        let root = RootCa {
            digest: root_digest(&cert_pem),
            cert_pem,
            key_pem: key.serialize_pem().into_bytes(),
            ..RootCa::default()
        };
        let issuer = Issuer::new(params, key);
        Ok(Self { root, issuer })
    }

    /// The root that the cluster has.
    pub fn from_root_ca(root: &RootCa) -> Result<Self> {
        let damaged = |what: &str, e: &dyn std::fmt::Display| {
            Error::internal(format!("the cluster's {what} cannot be read: {e}"))
                .on("cluster")
                .hint("restore it from another manager: every manager holds it")
        };
        let key = std::str::from_utf8(&root.key_pem)
            .map_err(|e| damaged("root key", &e))
            .and_then(|pem| KeyPair::from_pem(pem).map_err(|e| damaged("root key", &e)))?;
        let issuer = std::str::from_utf8(&root.cert_pem)
            .map_err(|e| damaged("root certificate", &e))
            .and_then(|pem| {
                Issuer::from_ca_cert_pem(pem, key).map_err(|e| damaged("root certificate", &e))
            })?;
        Ok(Self {
            root: root.clone(),
            issuer,
        })
    }

    /// As the cluster stores it, with its key.
    pub fn root_ca(&self) -> &RootCa {
        &self.root
    }

    /// A certificate for the key in `csr`, PEM, back-dated by an hour against
    /// clocks that differ, valid until `not_after_ns`. It is followed by the
    /// cross-signed root while the root is being exchanged.
    pub fn sign(
        &self,
        csr: &Csr,
        subject: &Subject,
        now_ns: i64,
        not_after_ns: i64,
    ) -> Result<Vec<u8>> {
        let params = leaf_params(subject, now_ns, not_after_ns)?;
        let certificate = params
            .signed_by(&csr.0.public_key, &self.issuer)
            .map_err(cannot("sign a certificate"))?;
        let mut pem = certificate.pem().into_bytes();
        pem.extend_from_slice(&self.root.cross_pem);
        Ok(pem)
    }

    /// This root's name and key, signed by `older`: who trusts only the older
    /// one comes to trust this one by it.
    pub(super) fn cross_signed_by(&self, older: &Self, now_ns: i64) -> Result<Vec<u8>> {
        let certificate = root_params(now_ns)?
            .signed_by(self.issuer.key(), &older.issuer)
            .map_err(cannot("cross-sign the root certificate"))?;
        Ok(certificate.pem().into_bytes())
    }
}

fn root_params(now_ns: i64) -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, ROOT_NAME);
    params.distinguished_name = name;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, now_ns, now_ns.saturating_add(ROOT_EXPIRY_NS));
    params.serial_number = Some(serial()?);
    Ok(params)
}

fn leaf_params(subject: &Subject, now_ns: i64, not_after_ns: i64) -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, subject.cluster_id.as_str());
    name.push(DnType::OrganizationalUnitName, subject.role.unit());
    name.push(DnType::CommonName, subject.name.as_str());
    params.distinguished_name = name;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    if subject.role != PeerRole::Operator {
        params
            .extended_key_usages
            .push(ExtendedKeyUsagePurpose::ServerAuth);
        let mut names = vec![subject.role.unit(), subject.name.as_str()];
        if subject.role == PeerRole::Manager {
            names.push(ROOT_NAME);
        }
        for name in names {
            let name = name
                .try_into()
                .map_err(|_| Error::invalid("node_id", format!("{name} is no DNS name")))?;
            params.subject_alt_names.push(SanType::DnsName(name));
        }
    }
    set_validity(&mut params, now_ns, not_after_ns);
    params.serial_number = Some(serial()?);
    Ok(params)
}

fn set_validity(params: &mut CertificateParams, now_ns: i64, not_after_ns: i64) {
    let at =
        |ns: i64| date_time_ymd(1970, 1, 1) + Duration::from_nanos(u64::try_from(ns).unwrap_or(0));
    params.not_before = at(now_ns.saturating_sub(CERT_BACKDATE_NS));
    params.not_after = at(not_after_ns);
}

fn serial() -> Result<SerialNumber> {
    let mut bytes = random_bytes::<16>()?;
    // Positive and without a leading zero, as X.509 wants it.
    if let Some(first) = bytes.first_mut() {
        *first = (*first & 0x7f) | 0x40;
    }
    Ok(SerialNumber::from_slice(&bytes))
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;
    use skep_proto::transport::{Credentials, Peer, validity_ns};

    use super::*;

    const DAY_NS: i64 = 24 * 3600 * 1_000_000_000;

    fn subject(role: PeerRole) -> Subject {
        Subject {
            name: "0node".to_owned(),
            role,
            cluster_id: "cluster1".to_owned(),
        }
    }

    fn request() -> (KeyPair, Csr) {
        let key = KeyPair::generate().unwrap();
        // A request that claims to be somebody: the claim must not count.
        let mut params = CertificateParams::new(vec!["swarm-manager".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "somebody");
        let csr = params.serialize_request(&key).unwrap().pem().unwrap();
        (key, Csr::parse(csr.as_bytes()).unwrap())
    }

    #[test]
    fn what_a_request_says_of_itself_counts_for_nothing() {
        let now = super::super::now_ns();
        let authority = RootAuthority::generate(now).unwrap();
        let (key, csr) = request();
        let pem = authority
            .sign(&csr, &subject(PeerRole::Worker), now, now + DAY_NS)
            .unwrap();
        let der = CertificateDer::from_pem_slice(&pem).unwrap();
        let peer = Peer::from_certificate(&der).unwrap();
        assert_eq!(peer.node_id, "0node");
        assert_eq!(peer.role, PeerRole::Worker);
        assert_eq!(peer.cluster_id, "cluster1");
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
        assert!(!parsed.is_ca());
        let names = parsed.subject_alternative_name().unwrap().unwrap();
        assert_eq!(names.value.general_names.len(), 2);
        assert!(!format!("{names:?}").contains("swarm-manager"));
        let (from, until) = validity_ns(&pem).unwrap();
        assert!((now - from - CERT_BACKDATE_NS).abs() <= 1_000_000_000);
        assert!((until - now - DAY_NS).abs() <= 1_000_000_000);
        Credentials::from_pem(
            &pem,
            key.serialize_pem().as_bytes(),
            &authority.root_ca().cert_pem,
        )
        .unwrap();
    }

    #[test]
    fn a_root_reads_back_and_signs_as_before() {
        let now = super::super::now_ns();
        let made = RootAuthority::generate(now).unwrap();
        let read = RootAuthority::from_root_ca(made.root_ca()).unwrap();
        assert_eq!(read.root_ca().digest, root_digest(&read.root_ca().cert_pem));
        let (_, csr) = request();
        assert!(
            read.sign(&csr, &subject(PeerRole::Manager), now, now + DAY_NS)
                .is_ok()
        );
    }

    #[test]
    fn a_bad_request_is_told_what_is_wrong() {
        let edwards = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let other_key = CertificateParams::default()
            .serialize_request(&edwards)
            .unwrap()
            .pem()
            .unwrap();
        for (pem, said) in [
            (Vec::new(), "empty"),
            (b"hello".to_vec(), "not a usable"),
            (vec![b'x'; CSR_BYTES_MAX + 1], "at most"),
            (vec![0xff, 0xfe], "not PEM"),
            (other_key.into_bytes(), "another kind"),
        ] {
            let error = Csr::parse(&pem).err().unwrap();
            assert_eq!(error.field, "csr_pem");
            assert!(error.message.contains(said), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_request_from_the_wire_brings_the_manager_down(
            at in 0usize..400,
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..64),
        ) {
            // Rubbish, and a good request with some bytes of it replaced.
            let _ = Csr::parse(&bytes);
            let key = KeyPair::generate().unwrap();
            let der = CertificateParams::default().serialize_request(&key).unwrap();
            let mut der = der.der().to_vec();
            for (place, byte) in der.iter_mut().skip(at).zip(&bytes) {
                *place = *byte;
            }
            let body = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &der);
            let pem = format!(
                "-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n"
            );
            let _ = Csr::parse(pem.as_bytes());
        }
    }
}
