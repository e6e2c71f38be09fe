//! `token make` and `token check`: tokens without writing a program.
//!
//! Promise: a token is made with the keys that the configuration names, or with a key file given
//! by flag, and checked exactly as the node would check it at that moment. Revocations are not
//! known here. No file is written. The text to print is returned.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::error::CliError;
use crate::auth::{
    Algorithm, Audience, AuthError, Can, Claims, Date, Grant, Grants, Key, KeyError, MAX_GRANTS,
    MAX_TOKEN_BYTES, MAX_USER_BYTES, Rights, Signer, is_user,
};
use crate::node::config::{AuthorityError, Config, ConfigError, Loaded, ServeFlags};
use crate::node::secret::{self, SecretError};
use crate::wire::Pattern;

/// Longest key file, in bytes.
const MAX_KEY_FILE_BYTES: u64 = 64 << 10;
/// Longest life of a token, in seconds: ten years.
const MAX_LIFE_SECONDS: u64 = 3_650 * 86_400;

/// Arguments of `token`.
#[derive(Clone, Debug, Args)]
pub struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum TokenCommand {
    /// Make a token
    Make(MakeArgs),
    /// Say whether a token would be believed, by whom it is and what it allows
    Check(CheckArgs),
}

/// Where keys come from: as for `serve`.
#[derive(Clone, Debug, Default, Args)]
struct KeySource {
    /// Configuration file with the keys; also HIGHWATER_CONFIG
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Use the development secret of the data folder
    #[arg(long)]
    dev: bool,
    /// The data folder
    #[arg(long, value_name = "FOLDER")]
    data: Option<String>,
}

/// Arguments of `token make`.
#[derive(Clone, Debug, Args)]
struct MakeArgs {
    /// The user
    #[arg(long)]
    user: String,
    /// What it may do, such as 'docs/**=read,append'; may be given many times
    #[arg(long = "grant", value_name = "PATTERN=RIGHTS", required = true)]
    grants: Vec<String>,
    /// How long it lives: seconds, or a number with s, m, h or d
    #[arg(long, value_name = "TIME", default_value = "1h", allow_negative_numbers = true)]
    expires_in: String,
    /// Whom it is for [default: the first audience of the configuration]
    #[arg(long)]
    audience: Option<String>,
    /// Its own name (jti), for a revocation
    #[arg(long)]
    id: Option<String>,
    /// Which key signs, by its id (kid)
    #[arg(long, value_name = "KID")]
    key_id: Option<String>,
    /// Sign with the secret in this file (HS256) and leave the configuration aside
    #[arg(long, value_name = "FILE", conflicts_with = "private_key_file")]
    secret_file: Option<PathBuf>,
    /// Sign with this private key (PEM, PKCS #8) and leave the configuration aside
    #[arg(long, value_name = "FILE", requires = "algorithm")]
    private_key_file: Option<PathBuf>,
    /// The private key's algorithm
    #[arg(
        long,
        value_name = "ALG",
        requires = "private_key_file",
        value_parser = ["RS256", "ES256", "EdDSA"]
    )]
    algorithm: Option<String>,
    #[command(flatten)]
    from: KeySource,
}

/// Arguments of `token check`.
#[derive(Clone, Debug, Args)]
struct CheckArgs {
    /// The token; read from standard input where it is absent
    token: Option<String>,
    #[command(flatten)]
    from: KeySource,
}

/// Why no token was made, or one is not believed.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The configuration is not good.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The development secret is not there.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The keys cannot be used.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The key is no key, or could not sign.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// No key of the configuration can sign.
    #[error(
        "no configured key can sign: give --secret-file, or --private-key-file and --algorithm, or \
         --dev"
    )]
    NoSigner,
    /// A flag does not say what it should.
    #[error("{0}")]
    Flag(String),
    /// A file or standard input could not be read.
    #[error("{0}: {1}")]
    Io(String, io::Error),
    /// The token is not believed.
    #[error("not believed, {code}: {0}", code = .0.code())]
    NotBelieved(#[from] AuthError),
}

impl From<TokenError> for CliError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Flag(_) => Self::Usage(error.to_string()),
            _ => Self::failed(error),
        }
    }
}

/// Carries out `token` at `now_ms` milliseconds since 1970; what it returns is for standard output.
///
/// # Errors
/// [`TokenError`].
pub fn run(
    args: &TokenArgs,
    environment: &[(String, String)],
    input: &mut dyn Read,
    now_ms: u64,
) -> Result<String, TokenError> {
    match &args.command {
        TokenCommand::Make(make) => make.run(environment, now_ms).map(|token| token + "\n"),
        TokenCommand::Check(check) => check.run(environment, input, now_ms),
    }
}

impl KeySource {
    fn load(&self, environment: &[(String, String)]) -> Result<Config, ConfigError> {
        let flags = ServeFlags {
            config: self.config.clone(),
            data: self.data.clone(),
            dev: self.dev,
            ..ServeFlags::default()
        };
        Ok(Loaded::load(&flags, environment)?.config)
    }
}

fn dev_secret(config: &Config) -> Result<Option<Vec<u8>>, SecretError> {
    config.server.dev.then(|| secret::found_in(&config.server.data)).transpose()
}

impl MakeArgs {
    fn run(&self, environment: &[(String, String)], now_ms: u64) -> Result<String, TokenError> {
        // What was typed is looked at before any file.
        let mut claims = self.claims(now_ms)?;
        let (signer, audience) = match self.signer_by_flag()? {
            Some(signer) => (signer, None),
            None => {
                let config = self.from.load(environment)?;
                (self.signer_of(&config)?, config.auth.audience.into_iter().next())
            }
        };
        claims.aud = self.audience.clone().or(audience).map(Audience::One);
        let token = signer.sign(&claims)?;
        if token.len() > MAX_TOKEN_BYTES {
            return Err(AuthError::TooLong.into());
        }
        Ok(token)
    }

    fn signer_by_flag(&self) -> Result<Option<Signer>, TokenError> {
        let id = self.key_id.clone();
        if let Some(file) = &self.secret_file {
            let secret = read_file(file)?;
            let secret = String::from_utf8_lossy(&secret);
            let secret = secret.trim_end_matches(['\r', '\n']);
            return Ok(Some(Signer::from_secret(id, secret.as_bytes())?));
        }
        let algorithm = self.algorithm.as_deref().and_then(Algorithm::from_name);
        match (&self.private_key_file, algorithm) {
            (Some(file), Some(algorithm)) => {
                Ok(Some(Signer::from_private_pem(id, algorithm, &read_file(file)?)?))
            }
            _ => Ok(None),
        }
    }

    /// The first key of the configuration that can sign and has the wanted id; in development the
    /// data folder's where no other is named.
    fn signer_of(&self, config: &Config) -> Result<Signer, TokenError> {
        let wanted = |key: &&Key| self.key_id.is_none() || key.id() == self.key_id.as_deref();
        if let Some(signer) = config.auth.keys.iter().filter(wanted).find_map(Key::signer) {
            return Ok(signer);
        }
        // The folder's secret has no id.
        let secret = if self.key_id.is_none() { dev_secret(config)? } else { None };
        Ok(Signer::from_secret(None, &secret.ok_or(TokenError::NoSigner)?)?)
    }

    /// The claims, but for whom they are meant.
    fn claims(&self, now_ms: u64) -> Result<Claims, TokenError> {
        let life = seconds_of(&self.expires_in).map_err(TokenError::Flag)?;
        if !is_user(&self.user) {
            let rule = format!("--user: 1 to {MAX_USER_BYTES} bytes, no control characters");
            return Err(TokenError::Flag(rule));
        }
        if self.grants.len() > MAX_GRANTS {
            return Err(TokenError::Flag(format!("--grant: at most {MAX_GRANTS}")));
        }
        let grants = self.grants.iter().map(|text| grant_of(text)).collect::<Result<_, _>>();
        Ok(Claims {
            sub: self.user.clone(),
            exp: Date::from_ms(now_ms.saturating_add(life * 1_000)),
            nbf: None,
            iat: Some(Date::from_ms(now_ms)),
            aud: None,
            jti: self.id.clone(),
            grants: grants.map_err(TokenError::Flag)?,
        })
    }
}

impl CheckArgs {
    fn run(
        &self,
        environment: &[(String, String)],
        input: &mut dyn Read,
        now_ms: u64,
    ) -> Result<String, TokenError> {
        let config = self.from.load(environment)?;
        let secret = dev_secret(&config)?;
        let authority = config.authority(secret.as_deref())?;
        let token = match self.token.as_deref() {
            Some(token) if token != "-" => token.to_owned(),
            _ => {
                let mut token = String::new();
                // One more than allowed, so that a token which is too long is seen to be.
                let read = input.take(MAX_TOKEN_BYTES as u64 + 2).read_to_string(&mut token);
                read.map_err(|error| TokenError::Io("standard input".to_owned(), error))?;
                token
            }
        };
        if token.trim().is_empty() {
            let message = "there is no token: give it as an argument or on standard input";
            return Err(TokenError::Flag(message.to_owned()));
        }
        let grants = authority.authenticate(Some(token.trim()), now_ms)?;
        Ok(describe(&grants, now_ms))
    }
}

/// A token's content, for people.
fn describe(grants: &Grants, now_ms: u64) -> String {
    let left = grants.expires_ms.saturating_sub(now_ms) / 1_000;
    let mut text = format!(
        "good\nuser:     {}\nid:       {}\nends:     in {left} s\n",
        grants.user, grants.token_id
    );
    for grant in &grants.grants {
        let rights: Vec<_> = grant.can.iter().map(Can::name).collect();
        text += &format!("grant:    {}={}\n", grant.logs, rights.join(","));
    }
    text
}

/// Reads `pattern=right,right`.
fn grant_of(text: &str) -> Result<Grant, String> {
    let wrong = |problem: String| format!("--grant {text}: {problem}");
    let (pattern, rights) =
        text.split_once('=').ok_or_else(|| wrong("write PATTERN=right,right".to_owned()))?;
    let logs = Pattern::parse(pattern).map_err(|error| wrong(error.to_string()))?;
    let right = |name: &str| {
        let names = Can::ALL.map(Can::name).join(", ");
        Can::from_name(name).ok_or_else(|| wrong(format!("{name:?} is no right: {names}")))
    };
    let can = rights.split(',').map(right).collect::<Result<Rights, _>>()?;
    Ok(Grant { logs, can })
}

/// Reads a time in seconds: a number, or one with a unit.
fn seconds_of(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.strip_suffix(['s', 'm', 'h', 'd']) {
        Some(number) => (number, text.as_bytes().last().copied()),
        None => (text, None),
    };
    let factor = match unit {
        Some(b'm') => 60,
        Some(b'h') => 3_600,
        Some(b'd') => 86_400,
        _ => 1,
    };
    let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    seconds.filter(|seconds| (1..=MAX_LIFE_SECONDS).contains(seconds)).ok_or_else(|| {
        format!("{text:?} is no time: write 90, 90s, 15m, 12h or 30d, at most ten years")
    })
}

fn read_file(path: &Path) -> Result<Vec<u8>, TokenError> {
    let failed = |error| TokenError::Io(path.display().to_string(), error);
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MAX_KEY_FILE_BYTES).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    const NOW: u64 = 1_800_000_000_000;
    const SECRET: &str = "a secret of thirty-two bytes or more";

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: TokenArgs,
    }

    fn told_with(words: &[&str], keys: &str, input: &str) -> Result<String, TokenError> {
        let words = std::iter::once("token").chain(words.iter().copied());
        let args = Command::try_parse_from(words).unwrap().args;
        let environment = match keys {
            "" => vec![],
            keys => vec![("HIGHWATER_AUTH_KEYS".to_owned(), keys.to_owned())],
        };
        run(&args, &environment, &mut input.as_bytes(), NOW)
    }

    fn keys() -> String {
        let ed = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/ed.pub");
        format!(
            r#"[{{alg = "EdDSA", kid = "ed", public_key_file = "{ed}"}},
                {{alg = "HS256", kid = "hs", secret = "{SECRET}"}}]"#
        )
    }

    fn told(words: &[&str]) -> Result<String, TokenError> {
        told_with(words, &keys(), "")
    }

    #[test]
    fn what_is_made_is_believed() {
        let token =
            told(&["make", "--user", "ana", "--grant", "docs/**=read,append", "--id", "t1"])
                .unwrap();
        let want = "good\nuser:     ana\nid:       t1\nends:     in 3605 s\n\
                    grant:    docs/**=read,append\n";
        assert_eq!(told(&["check", token.trim()]).unwrap(), want);
        assert_eq!(told_with(&["check"], &keys(), &token).unwrap(), want, "from standard input");
        assert_eq!(told_with(&["check", "-"], &keys(), &token).unwrap(), want);
    }

    #[test]
    fn a_private_key_signs_without_configuration() {
        let ed = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/ed.pem");
        let make = ["make", "--user", "ana", "--grant", "**=admin"];
        let by_key = ["--private-key-file", ed, "--algorithm", "EdDSA", "--key-id", "ed"];
        let token = told_with(&[&make[..], &by_key].concat(), "", "").unwrap();
        assert!(told(&["check", token.trim()]).unwrap().contains("grant:    **=admin\n"));
        let error = told(&[&make[..], &["--key-id", "ed"]].concat()).unwrap_err();
        assert!(matches!(error, TokenError::NoSigner), "a public key cannot sign: {error}");
    }

    #[test]
    fn development_makes_and_believes_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data").display().to_string();
        let from = ["--dev", "--data", &data];
        let make = ["make", "--user", "ana", "--grant", "**=read", "--expires-in", "2d"];
        for words in [[&make[..], &from].concat(), [&["check", "x"], &from[..]].concat()] {
            let error = told_with(&words, "", "").unwrap_err().to_string();
            assert!(error.contains("start `highwater serve --dev`"), "{error}");
            assert!(!folder.path().join("data").exists(), "nothing is made");
        }
        // As a node does it.
        secret::of_data_folder(&folder.path().join("data")).unwrap();
        let token = told_with(&[&make[..], &from].concat(), "", "").unwrap();
        let check = [&["check", token.trim()], &from[..]].concat();
        assert!(told_with(&check, "", "").unwrap().contains("ends:     in 172805 s\n"));
        let error = told(&["check", token.trim()]).unwrap_err();
        assert_eq!(error.to_string(), "not believed, unauthorized: the token's signature is wrong");
    }

    #[test]
    fn a_secret_file_signs_too() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, format!("{SECRET}\n")).unwrap();
        let file = file.to_str().unwrap();
        let make = ["make", "--user", "ana", "--grant", "a=read", "--secret-file", file];
        let token = told_with(&make, "", "").unwrap();
        assert!(told(&["check", token.trim()]).is_ok());
    }

    #[test]
    fn flags_are_checked() {
        let make = |user: &str, grant: &str, time: &str| {
            told(&["make", "--user", user, "--grant", grant, "--expires-in", time])
                .unwrap_err()
                .to_string()
        };
        let cases = [
            (make("", "a=read", "1h"), "--user: 1 to 128"),
            (make("ana", "a", "1h"), "--grant a: write PATTERN=right,right"),
            (make("ana", "a//b=read", "1h"), "--grant a//b=read: \"a//b\" is no pattern: segments"),
            (make("ana", "a=write", "1h"), "--grant a=write: \"write\" is no right: read, append"),
            (make("ana", "a=", "1h"), "--grant a=: \"\" is no right"),
            (make("ana", "a=read", "0"), "\"0\" is no time"),
            (make("ana", "a=read", "1w"), "\"1w\" is no time"),
            (make("ana", "a=read", "11000d"), "\"11000d\" is no time"),
        ];
        for (got, want) in cases {
            assert!(got.starts_with(want), "wanted {want}, got {got}");
        }
        let error = told_with(&["check", "x"], "", "").unwrap_err();
        assert!(matches!(error, TokenError::Config(_)), "{error}");
        let error = told_with(&["check"], &keys(), "\n").unwrap_err();
        assert!(matches!(error, TokenError::Flag(_)), "{error}");
        let long = "x".repeat(MAX_TOKEN_BYTES + 10);
        let error = told_with(&["check"], &keys(), &long).unwrap_err();
        assert!(matches!(error, TokenError::NotBelieved(AuthError::TooLong)), "{error}");
    }

    #[test]
    fn times_have_units() {
        for (text, want) in [
            ("90", Some(90)),
            ("90s", Some(90)),
            ("15m", Some(900)),
            ("12h", Some(43_200)),
            ("30d", Some(2_592_000)),
            ("", None),
            ("h", None),
            ("-1h", None),
            ("99999999999999999999d", None),
        ] {
            assert_eq!(seconds_of(text).ok(), want, "{text}");
        }
    }
}
