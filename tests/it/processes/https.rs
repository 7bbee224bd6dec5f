//! HTTPS.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rcgen::{generate_simple_self_signed, CertifiedKey};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::server::{rest, Server};
use super::{colm, MODEL, PLAIN};

/// The answer of the server to a GET request, over TLS.
fn get(server: &Server, path: &str, certificate: CertificateDer<'static>) -> String {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "localhost".try_into().unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(connection, TcpStream::connect(server.address).unwrap());
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut received = String::new();
    // The server may close the connection without a farewell.
    let _ = stream.read_to_string(&mut received);
    received
}

#[test]
fn the_server_speaks_https() {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".into()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (cert_file, key_file) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    fs::write(&cert_file, cert.pem()).unwrap();
    fs::write(&key_file, signing_key.serialize_pem()).unwrap();
    let [cert_file, key_file] = [&cert_file, &key_file].map(|file| file.to_str().unwrap());
    let server =
        Server::start(&["--tls-cert", cert_file, "--tls-key", key_file, "--header-timeout", "2"]);
    let answer = get(&server, "/v1/models", cert.der().clone());
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // Plain HTTP gets no answer, and a client that says nothing is disconnected.
    let plain = server.client("GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(!rest_bytes(plain).starts_with(b"HTTP"));
    assert_eq!(rest(server.client("")), "");

    let with = |cert: &str, key: &str| {
        colm(PLAIN, &["serve", "-m", MODEL, "-p", "0", "--tls-cert", cert, "--tls-key", key])
    };
    with("/no/such/file", key_file).refused_with("--tls-cert /no/such/file: ");
    with(key_file, key_file).refused_with("the file has no certificate");
    with(cert_file, cert_file).refused_with("--tls-key");
    let other = generate_simple_self_signed(["localhost".into()]).unwrap();
    let other_key = folder.path().join("other.pem");
    fs::write(&other_key, other.signing_key.serialize_pem()).unwrap();
    with(cert_file, other_key.to_str().unwrap()).refused_with("it does not fit the certificate");
}

fn rest_bytes(mut client: TcpStream) -> Vec<u8> {
    let mut received = Vec::new();
    let _ = client.read_to_end(&mut received);
    received
}
