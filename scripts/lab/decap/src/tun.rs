//! A TUN device of the kernel's: packets written to it arrive at this host, packets that this
//! host routes to it can be read.
//!
//! The device lives as long as the value. All unsafe code of the crate is the one `ioctl` that
//! creates it (Linux Documentation/networking/tuntap.rst).

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// A TUN device without packet information: each read and each write is one bare IP packet.
pub struct Tun {
    file: File,
}

impl Tun {
    /// Creates device `name` (1 to 15 bytes) with this MTU, in bytes, and sets it up. It gets no
    /// address.
    ///
    /// # Errors
    /// No permission (CAP_NET_ADMIN), a bad or taken name, or no `ip` command.
    pub fn create(name: &str, mtu: u16) -> Result<Tun> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/net/tun")
            .context("opening /dev/net/tun")?;
        attach(&file, name).with_context(|| format!("creating TUN device {name}"))?;
        let status = Command::new("ip")
            .args(["link", "set", "dev", name, "mtu", &mtu.to_string(), "up"])
            .status()
            .context("running ip")?;
        ensure!(status.success(), "ip link set dev {name} mtu {mtu} up: {status}");
        Ok(Tun { file })
    }

    /// Hands one IP packet to the kernel, as received on this device.
    ///
    /// # Errors
    /// The kernel refuses what is no IP packet, and everything while the device is down.
    pub fn deliver(&self, packet: &[u8]) -> std::io::Result<()> {
        (&self.file).write_all(packet)
    }

    /// Waits for a packet that the kernel routes to this device; its length in `buffer`.
    ///
    /// # Errors
    /// Those of read(2); `Interrupted` when a signal came.
    pub fn receive(&self, buffer: &mut [u8]) -> std::io::Result<usize> {
        (&self.file).read(buffer)
    }
}

#[expect(unsafe_code, reason = "the one system call that creates a TUN device")]
fn attach(file: &File, name: &str) -> Result<()> {
    let name = name.as_bytes();
    if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains(&0) {
        bail!("a device name has 1 to {} bytes", libc::IFNAMSIZ - 1);
    }
    // SAFETY: `ifreq` is a C struct of integers and arrays of them; zeroes are a value of it.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the descriptor is open for the whole call, `request` is a live ifreq whose name ends
    // in a zero byte (its length is checked above), and TUNSETIFF reads and writes no more than it.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if result < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    Ok(())
}
