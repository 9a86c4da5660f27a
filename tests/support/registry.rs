//! A registry with small images, as much of one as a pull asks for.
//!
//! <https://distribution.github.io/distribution/spec/api/>

use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// What is served: path below `/v2/`, media type, bytes.
type Content = BTreeMap<String, (&'static str, Vec<u8>)>;

/// A registry that lives as long as this process.
pub struct ImageServer {
    pub url: String,
    content: Arc<Mutex<Content>>,
}

impl ImageServer {
    /// Serves `library/busybox:1` and the image that a probe asks for, in the
    /// network of this thread.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let start = Content::from([(String::new(), ("application/json", b"{}".to_vec()))]);
        let server = Self { url, content: Arc::new(Mutex::new(start)) };
        server.offer("busybox", "1", "first");
        server.offer("hello-world", "latest", "first");
        let content = server.content.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that hangs up is its own affair.
                let _ = answer(stream, &content.lock().unwrap());
            }
        });
        server
    }

    /// Moves a tag to a new image, whose `/mark` says `mark`; its digest.
    pub fn offer(&self, name: &str, tag: &str, mark: &str) -> String {
        let (digest, content) = image(name, tag, mark);
        self.content.lock().unwrap().extend(content);
        digest
    }
}

fn answer(stream: TcpStream, content: &Content) -> std::io::Result<()> {
    let mut lines = BufReader::new(&stream).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    for line in lines.by_ref() {
        if line?.is_empty() {
            break;
        }
    }
    let mut words = request.split(' ');
    let (head_only, path) = (words.next() == Some("HEAD"), words.next().unwrap_or_default());
    let path = path.split('?').next().unwrap_or_default().trim_start_matches("/v2/");
    let nothing = ("text/plain", Vec::new());
    let (status, (kind, bytes)) = match content.get(path) {
        Some(found) => ("200 OK", found),
        None => ("404 Not Found", &nothing),
    };
    let mut stream = &stream;
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nDocker-Content-Digest: {}\r\n\
         Docker-Distribution-API-Version: registry/2.0\r\nConnection: close\r\n\r\n",
        bytes.len(),
        digest(bytes)
    )?;
    if head_only { Ok(()) } else { stream.write_all(bytes) }
}

fn image(name: &str, tag: &str, mark: &str) -> (String, Content) {
    let layer = layer(mark);
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {"Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]}, "history": [{"created_by": "test"}],
    });
    let config = config.to_string().into_bytes();
    let part = |kind: &str, bytes: &[u8]| serde_json::json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()});
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": part("application/vnd.oci.image.config.v1+json", &config),
        "layers": [part("application/vnd.oci.image.layer.v1.tar", &layer)],
    });
    let manifest = manifest.to_string().into_bytes();
    let mut content = Content::new();
    let at = |rest: &str| format!("library/{name}/{rest}");
    for reference in [tag.to_owned(), digest(&manifest)] {
        content.insert(at(&format!("manifests/{reference}")), (MANIFEST, manifest.clone()));
    }
    for blob in [&config, &layer] {
        content.insert(at(&format!("blobs/{}", digest(blob))), ("application/octet-stream", blob.clone()));
    }
    (digest(&manifest), content)
}

fn layer(mark: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(mark.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, "mark", mark.as_bytes()).unwrap();
    tar.append_path_with_name("/bin/busybox", "bin/busybox").unwrap();
    tar.into_inner().unwrap()
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}
