//! `portcullis health`: whether the service on this machine is alive, for images without curl.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::config::Config;

const PATIENCE: Duration = Duration::from_secs(3);
const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// Asks `/healthz` of the service that listens where the settings say.
///
/// # Errors
/// One line for the operator.
pub async fn check(config: &Config) -> Result<(), String> {
    let mut address = config.listen;
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(REQUEST).await?;
        let mut status = [0; 12];
        stream.read_exact(&mut status).await?;
        std::io::Result::Ok(status)
    };
    match tokio::time::timeout(PATIENCE, ask).await {
        Ok(Ok(status)) if &status == b"HTTP/1.1 200" => Ok(()),
        Ok(Ok(status)) => Err(format!("{address} answered {}", String::from_utf8_lossy(&status))),
        Ok(Err(error)) => Err(format!("{address}: {error}")),
        Err(_) => Err(format!("{address} did not answer within {} s", PATIENCE.as_secs())),
    }
}
