//! Applies the principle of least privilege. Once its interfaces are open, and before any thread
//! handles traffic, a live audit gives up all privileges that it no longer needs.

use std::io;
use std::path::PathBuf;

use crate::model::named_enum;

named_enum!(
    /// The extent to which a live audit confines itself.
    Sandbox {
        /// It confines itself as far as the system allows, and reports the steps that failed. It
        /// keeps the capability that is needed to open an interface again.
        Auto = "auto",
        /// It confines itself completely. If a step fails, the audit does not run.
        Strict = "strict",
        /// It does not confine itself. `--user` still applies.
        Off = "off",
    }
);

/// How the process confines itself, and the files and folders that it still needs after the start.
#[derive(Clone, Debug)]
pub struct Confinement {
    /// The extent to which the process confines itself.
    pub sandbox: Sandbox,
    /// The user to switch to, which requires root; `None` to keep the current user.
    pub user: Option<String>,
    /// Files and folders that a reload reads: those of the inventory, the rules and the exceptions.
    pub read: Vec<PathBuf>,
    /// Folders that are written to.
    pub write: Vec<PathBuf>,
    /// The folders whose owner becomes `user`.
    pub give: Vec<PathBuf>,
}

/// The reason why privileges cannot be given up.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// Confinement is required, but these steps failed.
    #[error("--sandbox strict: {}", .0.join("; "))]
    Strict(Vec<String>),
    /// The process cannot switch to the other user.
    #[error("--user {name}: {source}")]
    User {
        /// The user named by `--user`.
        name: String,
        /// The reason why the process cannot switch.
        source: Box<Self>,
    },
    /// There is no user with this name.
    #[error("there is no such user")]
    NoSuchUser,
    /// A step of the confinement failed.
    #[error("{what}: {source}")]
    Step {
        /// The step that failed, as the start of the message.
        what: &'static str,
        /// The error that the system returned.
        source: io::Error,
    },
    /// The process could become root again.
    #[error("the process could become root again")]
    RootStays,
    /// The ownership of this path must not change: it is not a folder (for example, it is a
    /// symbolic link), or all users can write to it and it belongs to another user.
    #[error("{}: this path is not a folder (a symbolic link does not count as one), or all users can write to it; use a separate folder", .0.display())]
    Open(PathBuf),
    /// The ownership of a folder cannot be changed.
    #[error("{}: {source}", .folder.display())]
    Give {
        /// The folder whose owner cannot be changed.
        folder: PathBuf,
        /// The error that the system returned.
        source: io::Error,
    },
    /// Capabilities cannot be read or dropped.
    #[cfg(target_os = "linux")]
    #[error("{0}")]
    Capabilities(#[from] caps::errors::CapsError),
    /// A system call failed.
    #[error("{0}")]
    System(#[source] io::Error),
    /// The system can enforce only some of the file rules.
    #[error("this system can enforce only part of the restrictions")]
    OnlyPart,
    /// The system does not support Landlock.
    #[error("this system does not support Landlock")]
    NoLandlock,
    /// The file rules cannot be applied.
    #[cfg(target_os = "linux")]
    #[error("{0}")]
    Rules(#[source] landlock::RulesetError),
    /// Confinement is supported only on Linux.
    #[error("only supported on Linux")]
    NotHere,
}

/// Gives up all privileges that are no longer needed. Returns descriptions of the steps that
/// failed.
///
/// # Errors
///
/// Returns an error if the process could not switch to the user or, with [`Sandbox::Strict`], if a
/// step failed.
pub fn confine(wanted: &Confinement) -> Result<Vec<String>, ConfineError> {
    let sandbox = wanted.sandbox;
    let mut failures = Vec::new();
    if let Some(user) = &wanted.user {
        let failed = |source| ConfineError::User { name: user.clone(), source: Box::new(source) };
        platform::become_user(user, &wanted.give).map_err(failed)?;
    }
    if sandbox == Sandbox::Off {
        return Ok(failures);
    }
    let mut note_failure = |what: &str, result: Result<(), ConfineError>| {
        if let Err(error) = result {
            failures.push(format!("{what}: {error}"));
        }
    };
    let kept = match sandbox {
        Sandbox::Strict => KeptCapabilities::None,
        Sandbox::Auto | Sandbox::Off => KeptCapabilities::RawSockets,
    };
    note_failure("capabilities could not be dropped", platform::drop_capabilities(kept));
    note_failure("gaining new privileges could not be prevented", platform::no_new_privileges());
    note_failure(
        "access to files could not be restricted",
        platform::confine_files(&wanted.read, &wanted.write),
    );
    if failures.is_empty() || sandbox == Sandbox::Auto {
        Ok(failures)
    } else {
        Err(ConfineError::Strict(failures))
    }
}

/// The capabilities that remain after the others are dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum KeptCapabilities {
    /// None, so an interface that disappears cannot be opened again.
    None,
    /// CAP_NET_RAW, which is needed to open an interface again, if the process has it.
    RawSockets,
}

#[cfg(target_os = "linux")]
mod platform {
    use std::path::{Path, PathBuf};

    use super::{ConfineError, KeptCapabilities};

    use landlock::{
        ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
        RulesetCreatedAttr, RulesetStatus,
    };
    use nix::unistd::{Uid, User, setgid, setgroups, setuid};

    /// Switches to another user, after making that user the owner of the folders. Does nothing if
    /// the process already runs as that user.
    pub fn become_user(name: &str, folders: &[PathBuf]) -> Result<(), ConfineError> {
        let failed =
            |what| move |error: nix::Error| ConfineError::Step { what, source: error.into() };
        let user = User::from_name(name).map_err(failed("the user could not be looked up"))?;
        let user = user.ok_or(ConfineError::NoSuchUser)?;
        if Uid::effective() == user.uid {
            return Ok(());
        }
        folders.iter().try_for_each(|folder| change_owner(folder, &user))?;
        // All permitted capabilities survive the switch, and `drop_capabilities` below drops those
        // that are not needed.
        nix::sys::prctl::set_keepcaps(true).map_err(failed("capabilities could not be kept"))?;
        setgroups(&[user.gid]).map_err(failed("the process could not leave its groups"))?;
        setgid(user.gid).map_err(failed("the process could not switch to the user's group"))?;
        setuid(user.uid).map_err(failed("the process could not switch to the user"))?;
        drop_capabilities(KeptCapabilities::RawSockets)?;
        match setuid(Uid::from_raw(0)) {
            Err(_) => Ok(()),
            Ok(()) => Err(ConfineError::RootStays),
        }
    }

    /// Makes a user and the user's group the owners of a folder. Returns an error if the path is
    /// not a folder, or if all users may write to the folder and it belongs to another user,
    /// because the owner of a folder such as /tmp must not change.
    fn change_owner(folder: &Path, user: &User) -> Result<(), ConfineError> {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let failed = |source| ConfineError::Give { folder: folder.to_owned(), source };
        let data = folder.symlink_metadata().map_err(failed)?;
        let open = data.permissions().mode() & 0o002 != 0;
        if !data.is_dir() || (open && data.uid() != user.uid.as_raw()) {
            return Err(ConfineError::Open(folder.to_owned()));
        }
        let at = nix::fcntl::AT_FDCWD;
        let flags = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
        nix::unistd::fchownat(at, folder, Some(user.uid), Some(user.gid), flags)
            .map_err(|error| failed(error.into()))
    }

    /// Permanently drops all capabilities except the kept ones.
    pub fn drop_capabilities(kept: KeptCapabilities) -> Result<(), ConfineError> {
        use caps::{CapSet, Capability, CapsHashSet};
        let permitted = caps::read(None, CapSet::Permitted)?;
        let keeps_raw =
            kept == KeptCapabilities::RawSockets && permitted.contains(&Capability::CAP_NET_RAW);
        let kept: CapsHashSet = keeps_raw.then_some(Capability::CAP_NET_RAW).into_iter().collect();
        for set in [CapSet::Ambient, CapSet::Inheritable] {
            caps::clear(None, set)?;
        }
        for set in [CapSet::Effective, CapSet::Permitted] {
            caps::set(None, set, &kept)?;
        }
        Ok(())
    }

    /// Prevents programs started by this process from gaining more privileges than it has.
    pub fn no_new_privileges() -> Result<(), ConfineError> {
        nix::sys::prctl::set_no_new_privs().map_err(|error| ConfineError::System(error.into()))
    }

    /// Restricts this process to these files and a few system files that are always readable
    /// (landlock(7)). Paths in `read` can be read but not changed. Folders in `write` can be read
    /// and written.
    pub fn confine_files(read: &[PathBuf], write: &[PathBuf]) -> Result<(), ConfineError> {
        let abi = ABI::V3;
        let reading = AccessFs::from_read(abi);
        let all = AccessFs::from_all(abi);
        let build = || {
            let mut rules = Ruleset::default()
                .set_compatibility(CompatLevel::HardRequirement)
                .handle_access(all)?
                .create()?;
            let known =
                ["/sys/class/net", "/sys/devices", "/proc/self/status", "/usr/share/zoneinfo"];
            let read = read.iter().map(PathBuf::as_path).chain(known.iter().map(Path::new));
            let rights =
                read.map(|path| (path, reading)).chain(write.iter().map(|p| (p.as_path(), all)));
            for (path, rights) in rights {
                // The ruleset needs an open file descriptor for each path. A path that does not
                // exist needs no rule.
                let Ok(open) = PathFd::new(path) else { continue };
                let rights = if path.is_dir() { rights } else { rights & AccessFs::from_file(abi) };
                rules = rules.add_rule(PathBeneath::new(open, rights))?;
            }
            rules.restrict_self()
        };
        match build() {
            Ok(status) if status.ruleset == RulesetStatus::FullyEnforced => Ok(()),
            Ok(_) => Err(ConfineError::OnlyPart),
            Err(
                landlock::RulesetError::CreateRuleset(_)
                | landlock::RulesetError::HandleAccesses(_),
            ) => Err(ConfineError::NoLandlock),
            Err(error) => Err(ConfineError::Rules(error)),
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod platform {
    use std::path::PathBuf;

    use super::{ConfineError, KeptCapabilities};

    pub fn become_user(_: &str, _: &[PathBuf]) -> Result<(), ConfineError> {
        Err(ConfineError::NotHere)
    }

    pub fn drop_capabilities(_: KeptCapabilities) -> Result<(), ConfineError> {
        Err(ConfineError::NotHere)
    }

    pub fn no_new_privileges() -> Result<(), ConfineError> {
        Err(ConfineError::NotHere)
    }

    pub fn confine_files(_: &[PathBuf], _: &[PathBuf]) -> Result<(), ConfineError> {
        Err(ConfineError::NotHere)
    }
}
