//! The exporter as its users run it, for the tests of this folder.

use std::path::Path;
use std::time::Duration;

use cloudpulse_testkit::binary::Program;
use cloudpulse_testkit::net::{free_port, http_client};

/// More than a scrape has else: this is not the optimised program, and some pages are of a machine of ten thousand devices.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Exporter {
    pub(crate) address: String,
    pub(crate) program: Program,
}

impl Exporter {
    pub(crate) async fn start(flags: &[&str]) -> Self {
        let port = free_port().unwrap().to_string();
        let address = format!("127.0.0.1:{port}");
        let binary = Path::new(env!("CARGO_BIN_EXE_cloudpulse-exporter"));
        let env = [("PORT", port.as_str()), ("NODE_ID", "node-7")];
        let program = Program::start(binary, flags, &env, Some(&format!("http://{address}/readyz"))).await.unwrap();
        Self { address, program }
    }

    pub(crate) async fn get(&self, path: &str, accept: &str) -> (u16, String) {
        get(&format!("http://{}{path}", self.address), accept).await
    }

    pub(crate) async fn text(&self) -> String {
        self.get("/metrics", "text/plain").await.1
    }
}

pub(crate) async fn get(url: &str, accept: &str) -> (u16, String) {
    let response = http_client().unwrap().get(url).timeout(PATIENCE).header("Accept", accept).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}
