//! A real certificate authority: Debian's `pebble`, with the DNS server that comes with it.

use super::server::free_port;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Ended when dropped, with everything that it wrote.
pub struct Authority {
    /// The directory's URL.
    pub directory: String,
    /// Vouches for the directory's own HTTPS.
    pub ca_file: PathBuf,
    /// Where records are set by HTTP.
    pub dns_management: u16,
    management: u16,
    home: tempfile::TempDir,
    running: Vec<Child>,
}

impl Authority {
    /// One whose certificates are valid for so many seconds, and that looks for answers on
    /// these two ports.
    pub fn start(http_port: u16, https_port: u16, valid: u32) -> Self {
        let home = tempfile::tempdir().unwrap();
        let [port, management, dns, dns_management] = std::array::from_fn(|_| free_port());
        let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let ca_file = home.path().join("cert.pem");
        std::fs::write(&ca_file, own.cert.pem()).unwrap();
        std::fs::write(home.path().join("key.pem"), own.signing_key.serialize_pem()).unwrap();
        let config = serde_json::json!({"pebble": {
            "listenAddress": format!("127.0.0.1:{port}"),
            "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": ca_file,
            "privateKey": home.path().join("key.pem"),
            "httpPort": http_port,
            "tlsPort": https_port,
            "certificateValidityPeriod": valid,
        }});
        std::fs::write(home.path().join("config.json"), config.to_string()).unwrap();
        let mut authority = Self {
            directory: format!("https://localhost:{port}/dir"),
            ca_file,
            dns_management,
            management,
            home,
            running: Vec::new(),
        };
        authority.run(
            "pebble-challtestsrv",
            &[
                "-defaultIPv6",
                "",
                "-http01",
                "",
                "-https01",
                "",
                "-tlsalpn01",
                "",
                "-dns01",
                &format!("127.0.0.1:{dns}"),
                "-management",
                &format!("127.0.0.1:{dns_management}"),
            ],
        );
        authority
            .run("pebble", &["-config", "config.json", "-strict", "-dnsserver", &format!("127.0.0.1:{dns}")]);
        for port in [port, management, dns_management] {
            super::eventually("the authority is up", Duration::from_secs(20), || {
                std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
            });
        }
        authority
    }

    fn run(&mut self, program: &str, arguments: &[&str]) {
        let log = std::fs::File::create(self.home.path().join(format!("{program}.log"))).unwrap();
        let child = Command::new(program)
            .args(arguments)
            .current_dir(self.home.path())
            .env("PEBBLE_VA_NOSLEEP", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error} (script/setup installs it)"));
        self.running.push(child);
    }

    /// Its root certificate, in a file for curl.
    pub fn root(&self) -> PathBuf {
        let path = self.home.path().join("root.pem");
        let address = format!("https://localhost:{}/roots/0", self.management);
        let output =
            Command::new("curl").args(["-sSf", "--cacert"]).arg(&self.ca_file).arg(address).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        std::fs::write(&path, output.stdout).unwrap();
        path
    }

    /// What it has said so far, for messages of failed tests.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.home.path().join("pebble.log")).unwrap_or_default()
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        for child in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
