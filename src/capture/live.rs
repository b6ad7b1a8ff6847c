//! Reads frames from live interfaces with libpcap.
//!
//! The thread that opens a [`LiveCapture`] also reads it and decodes its frames. There is no queue
//! between the kernel's ring and the flow tables, so only the kernel's counter is needed for lost
//! frames. Several captures of one interface share its load through the kernel's fan-out.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use pcap::{Active, Capture, Device, Error, IfFlags, Precision, Stat};

use super::filter::vlan_transparent;
use super::{Batch, CaptureError, DLT_RAW, Frame, RAW_IP};
use crate::model::{Loss, Nanos, SECOND};

/// How long the kernel collects frames and a read waits for them, in milliseconds. This limits how
/// late a window closes if an interface receives no frames.
const WAIT_MS: u16 = 100;

/// The time between two checks whether an interface that receives no frames is down.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// A filter expression that does not match any frame.
const REJECT_ALL: &str = "less 1 and greater 2";

/// The maximum number of frames in a batch.
const MAX_BATCH: usize = 1024;

/// Settings for capturing frames from an interface.
#[derive(Clone, Debug)]
pub struct CaptureOptions {
    /// Maximum number of bytes to keep of each frame.
    pub snaplen: u32,
    /// Size of the kernel's buffer for each capture, in bytes.
    pub buffer: u32,
    /// Whether to use promiscuous mode, which also captures frames to other hosts.
    pub promiscuous: bool,
    /// A BPF expression that the kernel applies; `None` to capture all frames.
    pub filter: Option<String>,
}

/// An interface that is being read.
pub struct LiveCapture {
    capture: Capture<Active>,
    link: u16,
    /// Nanoseconds per unit of the timestamps' fraction of a second: 1 or 1,000.
    unit: Nanos,
    last_stats: Stat,
    name: String,
    /// Whether the system lists the interface. The state (up or down) of other interfaces is not
    /// known.
    is_known: bool,
    /// Whether this capture reports frames that the interface itself dropped.
    counts_interface_drops: bool,
    /// Frames read since the capture was opened.
    read: u64,
    /// Frames that the kernel delivered according to its counters: received minus dropped.
    delivered: u64,
    /// When the state of the interface was last checked.
    checked: Instant,
    /// Whether libpcap reported an error, for example because the interface is gone. The capture
    /// must then be reopened, even if a new interface has the same name.
    lost: bool,
}

impl LiveCapture {
    /// Opens an interface. Captures with the same `group` share its frames, and all frames of one
    /// flow except IP fragments go to the same capture. A capture without a group receives all
    /// frames. No frames are delivered until the capture is
    /// [started](LiveCapture::start_capture).
    pub fn open(
        name: &str,
        options: &CaptureOptions,
        group: Option<u16>,
    ) -> Result<Self, CaptureError> {
        let open = |precision| {
            Capture::from_device(name)?
                .promisc(options.promiscuous)
                .snaplen(options.snaplen.try_into().unwrap_or(i32::MAX))
                .buffer_size(options.buffer.try_into().unwrap_or(i32::MAX))
                .timeout(WAIT_MS.into())
                .immediate_mode(false)
                .precision(precision)
                .open()
        };
        let (mut capture, unit) = match open(Precision::Nano) {
            Ok(capture) => (capture, 1),
            // Some interfaces support only microseconds.
            Err(_) => (open(Precision::Micro).map_err(CaptureError::Interface)?, 1000),
        };
        // Until a capture joins its group, it also receives the frames of the other captures.
        capture.filter(REJECT_ALL, false).map_err(CaptureError::Interface)?;
        if let Some(group) = group {
            join_fanout_group(&capture, group)?;
        }
        let link = u16::try_from(capture.get_datalink().0).unwrap_or(u16::MAX);
        let link = if link == DLT_RAW { RAW_IP } else { link };
        let mut capture = capture.setnonblock().map_err(CaptureError::Interface)?;
        // Discard frames that arrived before the filter was set.
        while capture.next_packet().is_ok() {}
        Ok(Self {
            last_stats: capture.stats().map_err(CaptureError::Interface)?,
            capture,
            link,
            unit,
            name: name.to_owned(),
            is_known: is_up(name).is_some(),
            counts_interface_drops: true,
            read: 0,
            delivered: 0,
            checked: Instant::now(),
            lost: false,
        })
    }

    /// Sets whether this capture reports frames that the interface itself dropped. If several
    /// captures share an interface, only one of them may report these, so that no frame is counted
    /// twice.
    #[must_use]
    pub fn with_interface_drops(self, counts_interface_drops: bool) -> Self {
        Self { counts_interface_drops, ..self }
    }

    /// Starts the delivery of frames that match the filter.
    pub fn start_capture(&mut self, options: &CaptureOptions) -> Result<(), CaptureError> {
        let filter = options.filter.as_deref().unwrap_or_default();
        let set = match vlan_transparent(filter).filter(|_| !filter.is_empty()) {
            // If the link type has no VLAN tags, the extended expression does not compile, and the
            // original one is used instead.
            Some(extended) => {
                self.capture.filter(&extended, true).or_else(|_| self.capture.filter(filter, true))
            }
            None => self.capture.filter(filter, true),
        };
        set.map_err(CaptureError::Interface)
    }

    /// Returns whether the interface that was opened still exists, even if it is down. False after
    /// a read error, and for a device that the system does not list as an interface, such as `any`.
    pub fn is_there(&self) -> bool {
        self.is_known && is_up(&self.name).is_some() && !self.lost
    }

    /// Returns whether the system reports the interface as down or no longer lists it. Always false
    /// for a device that the system does not list as an interface, such as `any`.
    pub fn is_down(&self) -> bool {
        self.is_known && is_up(&self.name) != Some(true)
    }

    /// Returns the registry number (LINKTYPE) of the link type of the frames.
    pub fn link(&self) -> u16 {
        self.link
    }

    /// Fills `batch` with the frames that have arrived, up to 1,024. The batch stays empty if none
    /// arrives within the wait time. Returns [`CaptureError::Down`] if the interface is down, and
    /// [`CaptureError::Interface`] if it can no longer be read.
    pub fn next(&mut self, batch: &mut Batch) -> Result<(), CaptureError> {
        batch.clear();
        let mut waited = false;
        while batch.frames.len() < MAX_BATCH {
            match self.capture.next_packet() {
                Ok(packet) => {
                    let header = packet.header;
                    let seconds = Nanos::from(header.ts.tv_sec);
                    let fraction = Nanos::from(header.ts.tv_usec);
                    let frame = Frame {
                        time: seconds * SECOND + fraction * self.unit,
                        offset: 0,
                        cap_len: 0,
                        wire_len: header.len.max(header.caplen),
                        link: self.link,
                        interface: 0,
                    };
                    batch.push(frame, packet.data);
                }
                Err(Error::TimeoutExpired) if waited || !batch.frames.is_empty() => break,
                Err(Error::TimeoutExpired) => {
                    // libpcap's own wait does not end if the interface receives no frames.
                    wait_for_frame(&self.capture);
                    waited = true;
                }
                Err(error) => {
                    self.lost = true;
                    return Err(CaptureError::Interface(error));
                }
            }
        }
        self.read += batch.frames.len() as u64;
        // An interface that is down delivers no frames and causes no error.
        if batch.frames.is_empty() && self.checked.elapsed() >= CHECK_INTERVAL {
            self.checked = Instant::now();
            if self.is_down() {
                return Err(CaptureError::Down);
            }
        }
        Ok(())
    }

    /// Returns how many frames arrived since the last call, and how many of them the kernel or the
    /// interface dropped; zeros if libpcap cannot read the counters.
    pub fn loss(&mut self) -> Loss {
        let Ok(now) = self.capture.stats() else { return Loss::default() };
        let before = std::mem::replace(&mut self.last_stats, now);
        // The counters have 32 bits and wrap around.
        let since = |now: u32, before: u32| u64::from(now.wrapping_sub(before));
        let received = since(now.received, before.received);
        let dropped = since(now.dropped, before.dropped);
        self.delivered += received.saturating_sub(dropped);
        let missed =
            if self.counts_interface_drops { since(now.if_dropped, before.if_dropped) } else { 0 };
        Loss { received: received + missed, dropped: dropped + missed }
    }

    /// Returns the loss since the last call of [`LiveCapture::loss`]. Must be called after reading
    /// has ended, because delivered frames that were not read count as dropped.
    pub fn final_loss(&mut self) -> Loss {
        let Loss { received, dropped } = self.loss();
        Loss { received, dropped: dropped + self.delivered.saturating_sub(self.read) }
    }
}

/// Returns whether an interface is up; `None` if the system has no interface with that name.
fn is_up(name: &str) -> Option<bool> {
    let mut all = nix::ifaddrs::getifaddrs().ok()?;
    let found = all.find(|interface| interface.interface_name == name)?;
    Some(found.flags.contains(nix::net::if_::InterfaceFlags::IFF_UP))
}

/// Returns whether an interface with this name does not exist now, but could be created later.
#[cfg(feature = "live")]
pub fn may_appear(name: &str) -> bool {
    // Linux limits names to 15 bytes and excludes slashes, colons and whitespace.
    let is_valid =
        name.len() < 16 && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace());
    let is_listed = || {
        let devices = Device::list();
        devices.is_ok_and(|devices| devices.iter().any(|device| device.name == name))
    };
    is_valid && !name.is_empty() && is_up(name).is_none() && !is_listed()
}

/// Waits for a frame, but not longer than [`WAIT_MS`].
fn wait_for_frame(capture: &Capture<Active>) {
    use nix::poll::{PollFd, PollFlags, poll};
    // If `poll` fails, the next read reports the error.
    let _ = poll(&mut [PollFd::new(capture.as_fd(), PollFlags::POLLIN)], WAIT_MS);
}

#[cfg(target_os = "linux")]
fn join_fanout_group(capture: &Capture<Active>, group: u16) -> Result<(), CaptureError> {
    use nix::{setsockopt_impl, sockopt_impl};
    sockopt_impl!(
        /// The fan-out group of a packet socket (packet(7)): its number and the mode in which
        /// frames are distributed.
        FanoutGroup, SetOnly, libc::SOL_PACKET, libc::PACKET_FANOUT, u32
    );
    // Frames are distributed by the hash of their flow. The fragments of a datagram may reach
    // different threads; they are matched when the tables merge. If the kernel reassembled
    // datagrams (`PACKET_FANOUT_FLAG_DEFRAG`), those with a missing fragment would be lost without
    // being counted.
    const SHARED: u32 = libc::PACKET_FANOUT_HASH;
    nix::sys::socket::setsockopt(capture, FanoutGroup, &(SHARED << 16 | u32::from(group)))
        .map_err(|error| CaptureError::FanOut(error.into()))
}

#[cfg(not(target_os = "linux"))]
fn join_fanout_group(_: &Capture<Active>, _: u16) -> Result<(), CaptureError> {
    Err(CaptureError::FanOut(std::io::ErrorKind::Unsupported.into()))
}

/// A network interface of this host.
#[derive(Debug)]
pub struct Interface {
    /// The name of the interface, for example `eth0`.
    pub name: String,
    /// The system's description; empty if there is none.
    pub description: String,
    /// The IP addresses of the interface.
    pub addresses: Vec<IpAddr>,
    /// Whether the interface is up and running.
    pub up: bool,
    /// Whether frames can be captured from the interface, and if not, why.
    pub usable: Result<(), CaptureError>,
}

/// Returns the interfaces that libpcap lists. Each is opened to determine whether frames can be
/// captured from it.
pub fn interfaces() -> Result<Vec<Interface>, CaptureError> {
    let options =
        CaptureOptions { snaplen: 128, buffer: 1 << 20, promiscuous: false, filter: None };
    let devices = Device::list().map_err(CaptureError::Filter)?;
    let describe = |device: Device| Interface {
        up: device.flags.if_flags.contains(IfFlags::UP | IfFlags::RUNNING),
        usable: LiveCapture::open(&device.name, &options, None).map(drop),
        description: device.desc.unwrap_or_default(),
        addresses: device.addresses.into_iter().map(|a| a.addr).collect(),
        name: device.name,
    };
    Ok(devices.into_iter().map(describe).collect())
}
