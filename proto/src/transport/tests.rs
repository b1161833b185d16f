//! Connections over real TCP, between parties with real certificates.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use super::*;
use crate::v1::identity_client::IdentityClient;
use crate::v1::identity_server::{Identity, IdentityServer};
use crate::v1::{
    IssueRequest, IssueResponse, RenewRequest, RootCertificateRequest, RootCertificateResponse,
};

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    Authority {
        issuer: Issuer::new(params, key),
        pem,
    }
}

fn signed(authority: &Authority, id: &str, role: PeerRole, until_year: i32) -> (String, String) {
    let names = vec![role.unit().to_owned(), id.to_owned()];
    let mut params = CertificateParams::new(names).unwrap();
    for (kind, text) in [
        (DnType::CommonName, id),
        (DnType::OrganizationalUnitName, role.unit()),
        (DnType::OrganizationName, "c1"),
    ] {
        params.distinguished_name.push(kind, text);
    }
    params.not_after = date_time_ymd(until_year, 1, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &authority.issuer).unwrap();
    (certificate.pem(), key.serialize_pem())
}

fn credentials(authority: &Authority, id: &str, role: PeerRole) -> Credentials {
    let (cert, key) = signed(authority, id, role, 2099);
    Credentials::from_pem(cert.as_bytes(), key.as_bytes(), authority.pem.as_bytes()).unwrap()
}

/// Tells every caller who it is taken for.
struct Mirror;

#[tonic::async_trait]
impl Identity for Mirror {
    async fn root_certificate(
        &self,
        request: Request<RootCertificateRequest>,
    ) -> Result<Response<RootCertificateResponse>, Status> {
        let seen = match caller(&request)? {
            Caller::Certified(peer, _) => format!("{} {}", peer.node_id, peer.role.unit()),
            Caller::Unknown(_) => "unknown".to_owned(),
            Caller::Local => "local".to_owned(),
        };
        let cert_pem = seen.into_bytes();
        Ok(Response::new(RootCertificateResponse { cert_pem }))
    }

    async fn issue(&self, _: Request<IssueRequest>) -> Result<Response<IssueResponse>, Status> {
        Err(Status::unimplemented("a mirror issues nothing"))
    }

    async fn renew(&self, _: Request<RenewRequest>) -> Result<Response<IssueResponse>, Status> {
        Err(Status::unimplemented("a mirror renews nothing"))
    }
}

async fn serve(credentials: Credentials, options: AcceptOptions) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let incoming = accept_with(listener, credentials, options);
    tokio::spawn(
        Server::builder()
            .add_service(IdentityServer::new(Mirror))
            .serve_with_incoming(incoming),
    );
    addr
}

/// Whom the server at `addr` takes us for.
async fn seen_as(addr: SocketAddr, trust: &Trust, options: &DialOptions) -> crate::Result<String> {
    let channel = dial(&addr.to_string(), trust, options).await?;
    let answer = tokio::time::timeout(
        Duration::from_secs(5),
        IdentityClient::new(channel).root_certificate(RootCertificateRequest {}),
    )
    .await
    .expect("an answer in time")?;
    Ok(String::from_utf8(answer.into_inner().cert_pem).unwrap())
}

fn manager(authority: &Authority) -> Credentials {
    credentials(authority, "m1", PeerRole::Manager)
}

#[tokio::test]
async fn each_side_knows_the_other_by_its_certificate() {
    let ours = authority();
    let addr = serve(manager(&ours), AcceptOptions::default()).await;
    for (id, role) in [
        ("m2", PeerRole::Manager),
        ("w1", PeerRole::Worker),
        ("ann", PeerRole::Operator),
    ] {
        let trust = Trust::Credentials(credentials(&ours, id, role));
        let seen = seen_as(addr, &trust, &DialOptions::default())
            .await
            .unwrap();
        assert_eq!(seen, format!("{id} {}", role.unit()));
    }
}

#[tokio::test]
async fn a_caller_without_a_certificate_is_unknown() {
    let ours = authority();
    let addr = serve(manager(&ours), AcceptOptions::default()).await;
    let options = DialOptions::default();
    for trust in [Trust::Nobody, Trust::Root(ours.pem.clone().into_bytes())] {
        assert_eq!(seen_as(addr, &trust, &options).await.unwrap(), "unknown");
    }
}

#[tokio::test]
async fn another_cluster_is_refused_by_both_sides() {
    let (ours, theirs) = (authority(), authority());
    let addr = serve(manager(&ours), AcceptOptions::default()).await;
    let options = DialOptions::default();

    let foreign = Trust::Credentials(credentials(&theirs, "m9", PeerRole::Manager));
    let refused = seen_as(addr, &foreign, &options).await.unwrap_err();
    assert!(refused.message.contains("certificate"), "{refused}");

    // It trusts us, but its certificate is of theirs: we must not take it.
    let (cert, key) = signed(&theirs, "m9", PeerRole::Manager, 2099);
    let spy = Credentials::from_pem(cert.as_bytes(), key.as_bytes(), ours.pem.as_bytes()).unwrap();
    assert!(
        seen_as(addr, &Trust::Credentials(spy), &options)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_worker_cannot_pose_as_a_manager() {
    let ours = authority();
    let impostor = credentials(&ours, "w1", PeerRole::Worker);
    let addr = serve(impostor, AcceptOptions::default()).await;
    let trust = Trust::Credentials(manager(&ours));
    let refused = seen_as(addr, &trust, &DialOptions::default())
        .await
        .unwrap_err();
    assert!(refused.message.contains("swarm-manager"), "{refused}");
}

#[tokio::test]
async fn only_the_named_manager_will_do() {
    let ours = authority();
    let addr = serve(manager(&ours), AcceptOptions::default()).await;
    let trust = Trust::Credentials(credentials(&ours, "m2", PeerRole::Manager));
    let named = |id: &str| DialOptions {
        node_id: Some(id.to_owned()),
        ..DialOptions::default()
    };
    assert!(seen_as(addr, &trust, &named("m1")).await.is_ok());
    assert!(seen_as(addr, &trust, &named("m3")).await.is_err());
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let ours = authority();
    let addr = serve(manager(&ours), AcceptOptions::default()).await;
    let (cert, key) = signed(&ours, "w1", PeerRole::Worker, 2001);
    let expired =
        Credentials::from_pem(cert.as_bytes(), key.as_bytes(), ours.pem.as_bytes()).unwrap();
    let trust = Trust::Credentials(expired.clone());
    assert!(
        seen_as(addr, &trust, &DialOptions::default())
            .await
            .is_err()
    );
    let old_server = serve(expired, AcceptOptions::default()).await;
    let trust = Trust::Credentials(manager(&ours));
    let refused = seen_as(old_server, &trust, &DialOptions::default())
        .await
        .unwrap_err();
    assert!(refused.message.contains("expired"), "{refused}");
}

#[tokio::test]
async fn an_exchanged_certificate_is_shown_by_the_next_connection() {
    let (ours, next) = (authority(), authority());
    let server = manager(&ours);
    let addr = serve(server.clone(), AcceptOptions::default()).await;
    let client = credentials(&ours, "w1", PeerRole::Worker);
    let (trust, options) = (Trust::Credentials(client.clone()), DialOptions::default());
    assert_eq!(
        seen_as(addr, &trust, &options).await.unwrap(),
        "w1 swarm-worker"
    );
    // Both sides move to another root altogether, as at the end of a rotation.
    for (side, id, role) in [
        (&server, "m1", PeerRole::Manager),
        (&client, "w1", PeerRole::Manager),
    ] {
        let (cert, key) = signed(&next, id, role, 2099);
        side.replace(cert.as_bytes(), key.as_bytes(), next.pem.as_bytes())
            .unwrap();
    }
    assert_eq!(
        seen_as(addr, &trust, &options).await.unwrap(),
        "w1 swarm-manager"
    );
}

#[tokio::test]
async fn a_key_of_another_certificate_is_refused() {
    let ours = authority();
    let (cert, _) = signed(&ours, "w1", PeerRole::Worker, 2099);
    let (_, key) = signed(&ours, "w1", PeerRole::Worker, 2099);
    assert!(Credentials::from_pem(cert.as_bytes(), key.as_bytes(), ours.pem.as_bytes()).is_err());
}

#[tokio::test]
async fn a_caller_that_never_finishes_its_handshake_is_dropped() {
    let ours = authority();
    let options = AcceptOptions {
        handshakes_max: 1,
        handshake_timeout: Duration::from_millis(200),
        ..AcceptOptions::default()
    };
    let addr = serve(manager(&ours), options).await;
    let mut silent = TcpStream::connect(addr).await.unwrap();
    let end = tokio::time::timeout(Duration::from_secs(5), silent.read(&mut [0; 8]))
        .await
        .expect("dropped in time");
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    // And it stood in nobody's way for longer.
    let trust = Trust::Credentials(credentials(&ours, "w1", PeerRole::Worker));
    assert!(seen_as(addr, &trust, &DialOptions::default()).await.is_ok());
}

#[tokio::test]
async fn a_dead_address_fails_in_time_and_is_named() {
    let ours = authority();
    let trust = Trust::Credentials(manager(&ours));
    let options = DialOptions {
        connect_timeout: Duration::from_millis(300),
        ..DialOptions::default()
    };
    let closed = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    // Accepts, and never says anything.
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for (addr, said) in [
        (closed, "refused"),
        (mute.local_addr().unwrap(), "no answer within 300ms"),
    ] {
        let began = Instant::now();
        let error = seen_as(addr, &trust, &options).await.unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(3));
        assert!(error.is_retryable());
        assert!(error.message.contains(&addr.to_string()), "{error}");
        assert!(error.message.contains(said), "{error}");
    }
}

#[tokio::test]
async fn a_caller_without_a_certificate_may_not_stay() {
    let ours = authority();
    let options = AcceptOptions {
        strangers_max: 1,
        stranger_timeout: Duration::from_millis(300),
        ..AcceptOptions::default()
    };
    let addr = serve(manager(&ours), options).await;
    let trust = Trust::Root(ours.pem.clone().into_bytes());
    let connector = tokio_rustls::TlsConnector::from(trust.client().unwrap());
    let stay = || async {
        let tcp = TcpStream::connect(addr).await.unwrap();
        let name = "swarm-manager".try_into().unwrap();
        let mut tls = connector.connect(name, tcp).await.unwrap();
        // Whoever is let in hears the server's settings; then nothing, then the end.
        let mut heard = Vec::new();
        let end = tokio::time::timeout(Duration::from_secs(5), tls.read_to_end(&mut heard));
        let _ = end.await.expect("ended in time");
        !heard.is_empty()
    };
    let (one, two) = tokio::join!(stay(), stay());
    assert!(one != two, "one of two is let in: {one} {two}");
    // Its place is free again, and a node never needed one.
    assert!(stay().await);
    let trust = Trust::Credentials(credentials(&ours, "w1", PeerRole::Worker));
    assert!(seen_as(addr, &trust, &DialOptions::default()).await.is_ok());
}

#[tokio::test]
async fn a_call_over_a_lazy_channel_says_why_it_failed() {
    let ours = authority();
    let trust = Trust::Credentials(manager(&ours));
    let closed = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let channel = dial_lazy(&closed.to_string(), &trust, &DialOptions::default());
    let status = IdentityClient::new(channel)
        .root_certificate(RootCertificateRequest {})
        .await
        .unwrap_err();
    let error = crate::Error::from(status);
    assert!(error.is_retryable());
    assert!(error.message.contains("refused"), "{error}");
}
