//! An operator elsewhere, with a certificate, over real TLS.

use std::time::Duration;

use skep_manager::identity::{FoundOptions, found, issue_operator};
use skep_proto::transport::{Credentials, accept};
use skep_proto::v1::control_server::ControlServer;
use skep_proto::v1::write_request::Verb;
use tokio::net::TcpListener;

use super::fake::Fake;
use crate::client::{Bundle, Client, Target};

#[tokio::test]
async fn an_operator_reaches_whichever_manager_lives() {
    let founding = found(FoundOptions::default()).unwrap();
    let Some(Verb::InitCluster(init)) = &founding.request.verb else {
        panic!("a swarm begins with InitCluster");
    };
    let operator = issue_operator(init.cluster.as_ref().unwrap(), "me", 0).unwrap();

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let alive = listener.local_addr().unwrap().to_string();
    let credentials =
        Credentials::from_pem(&founding.cert_pem, &founding.key_pem, &founding.root_pem).unwrap();
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(ControlServer::new(Fake::default()))
            .serve_with_incoming(accept(listener, credentials)),
    );
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead = gone.local_addr().unwrap().to_string();
    drop(gone);

    let text = |pem: Vec<u8>| String::from_utf8(pem).unwrap();
    let bundle = Bundle {
        name: "prod".into(),
        cluster_id: operator.cluster_id.clone(),
        managers: vec![dead.clone(), alive],
        root_pem: text(operator.root_pem),
        cert_pem: text(operator.cert_pem),
        key_pem: text(operator.key_pem),
    };
    let target = |addrs: Vec<String>| Target::Managers {
        addrs,
        bundle: Box::new(bundle.clone()),
    };
    let timeout = Duration::from_secs(10);
    let client = Client::connect(&target(bundle.managers.clone()), timeout)
        .await
        .unwrap();
    assert!(!client.is_local());
    assert_eq!(client.node("alpha").await.unwrap().hostname(), "alpha");
    let error = client.local("swarm leave").unwrap_err();
    assert!(error.hint.contains("--context"), "{}", error.hint);

    let error = Client::connect(&target(vec![dead.clone()]), timeout)
        .await
        .unwrap_err();
    assert!(error.message.contains(&dead), "{}", error.message);
}
