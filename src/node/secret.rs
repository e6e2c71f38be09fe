//! The secret of development: made once per data folder, so that tokens outlive a restart.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

/// The file in the data folder that holds it.
pub const FILE: &str = "dev-secret";

/// A secret that could be neither read nor made.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file system refused.
    #[error("{path}: {problem}", path = .0.display(), problem = .1)]
    Io(PathBuf, io::Error),
    /// Nobody has made one.
    #[error(
        "no {FILE} in {}: start `highwater serve --dev` with this data folder once, or name \
         another with --data",
        .0.display()
    )]
    Missing(PathBuf),
    /// The file holds something else; it may have been cut short by a crash.
    #[error("{}: not 64 hexadecimal digits; delete the file and a new one is made", .0.display())]
    Form(PathBuf),
}

/// The development secret of a data folder, as the bytes that sign; made on first use, readable
/// by its owner only. For the node that has the folder open.
///
/// # Errors
/// [`SecretError`].
pub fn of_data_folder(data: &Path) -> Result<Vec<u8>, SecretError> {
    let path = data.join(FILE);
    match read(&path) {
        Err(SecretError::Io(_, error)) if error.kind() == ErrorKind::NotFound => {
            match make(data, &path) {
                // Somebody else made it in the meantime.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => read(&path),
                made => made.map_err(|error| SecretError::Io(path, error)),
            }
        }
        outcome => outcome,
    }
}

/// The development secret that a node has made in a data folder. Nothing is made here: a folder
/// with nothing but a secret in it would be taken for somebody else's by the next node.
///
/// # Errors
/// [`SecretError`].
pub fn found_in(data: &Path) -> Result<Vec<u8>, SecretError> {
    read(&data.join(FILE)).map_err(|error| match error {
        SecretError::Io(_, error) if error.kind() == ErrorKind::NotFound => {
            SecretError::Missing(data.to_owned())
        }
        error => error,
    })
}

fn read(path: &Path) -> Result<Vec<u8>, SecretError> {
    let bytes = fs::read(path).map_err(|error| SecretError::Io(path.to_owned(), error))?;
    let digits = bytes.trim_ascii();
    if digits.len() == 64 && digits.iter().all(u8::is_ascii_hexdigit) {
        Ok(digits.to_vec())
    } else {
        Err(SecretError::Form(path.to_owned()))
    }
}

fn make(data: &Path, path: &Path) -> io::Result<Vec<u8>> {
    fs::create_dir_all(data)?;
    let mut digits = String::with_capacity(65);
    for byte in rand::random::<[u8; 32]>() {
        write!(digits, "{byte:02x}").map_err(io::Error::other)?;
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    writeln!(file, "{digits}")?;
    file.sync_all()?;
    Ok(digits.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_once_and_differs_between_folders() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("a/b");
        let secret = of_data_folder(&data).unwrap();
        assert_eq!(secret.len(), 64);
        assert_eq!(of_data_folder(&data).unwrap(), secret);
        assert_ne!(of_data_folder(&folder.path().join("c")).unwrap(), secret);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(data.join(FILE)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn looking_for_it_makes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        for _ in 0..2 {
            let error = found_in(&data).unwrap_err();
            assert!(matches!(error, SecretError::Missing(_)), "{error}");
        }
        assert!(!data.exists());
        let secret = of_data_folder(&data).unwrap();
        assert_eq!(found_in(&data).unwrap(), secret);
    }

    #[test]
    fn a_broken_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), "abc").unwrap();
        let error = of_data_folder(folder.path()).unwrap_err();
        assert!(matches!(error, SecretError::Form(_)));
        assert!(error.to_string().contains("dev-secret: not 64"), "{error}");
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let error = of_data_folder(&file).unwrap_err();
        assert!(matches!(error, SecretError::Io(..)), "{error}");
    }
}
