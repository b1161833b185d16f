//! A root and certificates as a cluster has them.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use skep_proto::transport::{Credentials, PeerRole};

pub struct Pki {
    root: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
            .distinguished_name
            .push(DnType::CommonName, "swarm-ca");
        let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { root }
    }

    pub fn credentials(&self, node_id: &str, role: PeerRole) -> Credentials {
        let mut params = CertificateParams::new(vec![role.unit().to_owned()]).unwrap();
        let name = &mut params.distinguished_name;
        name.push(DnType::CommonName, node_id);
        name.push(DnType::OrganizationalUnitName, role.unit());
        name.push(DnType::OrganizationName, "cluster-1");
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.root).unwrap();
        Credentials::from_pem(
            certificate.pem().as_bytes(),
            key.serialize_pem().as_bytes(),
            self.root.pem().as_bytes(),
        )
        .unwrap()
    }
}
