//! One configuration file: its text, and how it becomes serde types.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Deserializer};

use super::{ConfigError, DIAGNOSTICS_MAX, Diagnostic, Problems, Rejected, nearest};

/// The largest configuration file that is read, in bytes: room for ten thousand tickets with all their keys.
pub const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// A configuration file that was read.
#[derive(Debug, Clone)]
pub struct Source {
    file: PathBuf,
    text: String,
}

impl Source {
    /// Of text that is already at hand; `file` is the name that diagnostics show.
    pub fn new(file: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        Self { file: file.into(), text: text.into() }
    }

    /// Reads `file`. It must be UTF-8 and at most [`FILE_BYTES_MAX`] long.
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        let mut bytes = Vec::new();
        File::open(file)
            .and_then(|open| open.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
            .map_err(|error| cannot_read(file, &error))?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            let cause = format!("larger than {} MiB", FILE_BYTES_MAX / 1024 / 1024);
            return Err(Diagnostic::of_file(file, cause).hint("check that this is the right file").into());
        }
        String::from_utf8(bytes).map(|text| Self::new(file, text)).map_err(|error| {
            let good = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
            Diagnostic::at(&Self::new(file, text), good..good + 1, "not UTF-8 text")
                .hint("save the file as UTF-8")
                .into()
        })
    }

    /// The name of the file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// All of it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Parses the file as TOML into `T`, or says everything that stands in the way.
    ///
    /// serde stops at its first error. So the entry it stumbled over is taken out of a copy of the document, and the rest
    /// parsed again, until it goes through; what was found on the way is the error.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        let (mut document, syntax) = DeTable::parse_recoverable(&self.text);
        let mut problems = Problems::new();
        for error in &syntax {
            problems.add(self.syntax_error(error));
        }
        if !problems.is_empty() {
            return problems.finish(None);
        }
        let mut taken_out = HashSet::new();
        // Each turn notes a problem or takes an entry out because of one.
        for _ in 0..2 * DIAGNOSTICS_MAX {
            let error = match T::deserialize(Deserializer::from(document.clone())) {
                Ok(value) => return problems.finish(Some(value)),
                Err(error) => error,
            };
            let span = error.span().unwrap_or_else(|| document.span());
            let follows = missing_field(error.message())
                .is_some_and(|field| taken_out.contains(&(span.start, field.to_owned())));
            let table = document.span();
            if !follows {
                problems.add(self.shape_error(error.message(), span.clone(), span == table));
            }
            match take_out(document.get_mut(), &table, &span) {
                Some(entry) => taken_out.insert(entry),
                None => break,
            };
        }
        problems.finish(None)
    }

    fn syntax_error(&self, error: &toml::de::Error) -> Diagnostic {
        let end = self.text.len();
        let hint = if error.message().starts_with("duplicate key") {
            "write it once; the name of a table counts as a key too"
        } else {
            "check quotes, brackets and `=`; the format is TOML"
        };
        Diagnostic::at(self, error.span().unwrap_or(end..end), error.message()).hint(hint)
    }

    /// An error of serde's about the types, in our words; `whole` if it is about the outermost table.
    fn shape_error(&self, message: &str, span: Range<usize>, whole: bool) -> Diagnostic {
        if let Some((what, word, known)) = unknown_word(message) {
            let hint = match nearest(word, known.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None if known.is_empty() => "remove it".to_owned(),
                None => format!("known here: {}", known.join(", ")),
            };
            return Diagnostic::at(self, span, format!("unknown {what} `{word}`")).hint(hint);
        }
        if let Some(field) = missing_field(message) {
            let hint = format!("add `{field} = …`");
            return if whole {
                Diagnostic::of_file(self.file(), format!("`{field}` is missing")).hint(hint)
            } else {
                Diagnostic::at(self, self.first_line(span), format!("`{field}` is missing here")).hint(hint)
            };
        }
        if let Some((found, expected)) = wrong_type(message) {
            return Diagnostic::at(self, span, format!("{found} does not belong here"))
                .hint(format!("write {}", in_words(expected)));
        }
        if message == "wanted string or table" {
            return Diagnostic::at(self, span, "one of certain words belongs here")
                .hint("write it in quotes");
        }
        Rejected::from_text(message).at(self, span)
    }

    /// A missing key is shown at the head of its table, not over all of it.
    fn first_line(&self, span: Range<usize>) -> Range<usize> {
        let rest = self.text.get(span.clone()).unwrap_or_default();
        span.start..span.start + rest.find('\n').unwrap_or(rest.len())
    }
}

fn cannot_read(file: &Path, error: &io::Error) -> ConfigError {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => "create it, or say where it is",
        io::ErrorKind::PermissionDenied => "let the user that this runs as read it",
        io::ErrorKind::IsADirectory => "name a file",
        _ => "check the file and the disk it is on",
    };
    Diagnostic::of_file(file, format!("cannot be read: {error}")).hint(hint).into()
}

/// Takes the innermost entry that `span` lies in out of `table`; gives the start of its table's span and its key.
fn take_out(table: &mut DeTable<'_>, at: &Range<usize>, span: &Range<usize>) -> Option<(usize, String)> {
    for (_, value) in table.iter_mut() {
        let value_span = value.span();
        if let Some(taken) = take_out_of_value(value.get_mut(), &value_span, span) {
            return Some(taken);
        }
    }
    let key =
        table.iter().find(|(key, value)| covers(&key.span(), span) || covers(&value.span(), span))?.0.clone();
    table.remove(&key);
    Some((at.start, key.into_inner().into_owned()))
}

fn take_out_of_value(
    value: &mut DeValue<'_>,
    at: &Range<usize>,
    span: &Range<usize>,
) -> Option<(usize, String)> {
    match value {
        DeValue::Table(inner) => take_out(inner, at, span),
        DeValue::Array(items) => {
            let inside = items.iter_mut().find_map(|item: &mut Spanned<DeValue<'_>>| {
                let item_span = item.span();
                take_out_of_value(item.get_mut(), &item_span, span)
            });
            inside.or_else(|| {
                let index = items.iter().position(|item| covers(&item.span(), span))?;
                let rest = std::mem::replace(items, DeArray::new())
                    .into_iter()
                    .enumerate()
                    .filter(|(at, _)| *at != index);
                *items = rest.map(|(_, item)| item).collect();
                Some((at.start, index.to_string()))
            })
        }
        _ => None,
    }
}

fn covers(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end && !outer.is_empty()
}

/// Takes apart serde's "unknown field `x`, expected one of `a`, `b`" (or variant): what it is, the word, the known ones.
fn unknown_word(message: &str) -> Option<(&'static str, &str, Vec<&str>)> {
    let (what, rest) = if let Some(rest) = message.strip_prefix("unknown field `") {
        ("key", rest)
    } else {
        ("value", message.strip_prefix("unknown variant `")?)
    };
    let (word, rest) = rest.split_once('`')?;
    Some((what, word, rest.split('`').skip(1).step_by(2).collect()))
}

/// Takes apart serde's "invalid type: integer `5`, expected a string" (or value).
fn wrong_type(message: &str) -> Option<(&str, &str)> {
    let rest = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "))?;
    rest.rsplit_once(", expected ")
}

/// What serde names by its Rust type, in the words of somebody who writes TOML.
fn in_words(expected: &str) -> &str {
    match expected {
        "u8" => "a whole number from 0 to 255",
        "a nonzero u8" => "a whole number from 1 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" | "u64" | "usize" => "a whole number",
        "a nonzero u32" | "a nonzero u64" | "a nonzero usize" => "a whole number, 1 or more",
        "a boolean" => "true or false",
        "a string" => "text in quotes",
        "a sequence" => "a list in [ ]",
        "a map" => "a table",
        _ if expected.starts_with("struct ") => "a table",
        _ => expected,
    }
}

fn missing_field(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.strip_suffix('`')
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::super::Period;
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    struct Shop {
        #[allow(dead_code, reason = "only its shape matters")]
        owner: String,
        opens_within: Option<Period>,
        #[serde(default)]
        shelf: Vec<Shelf>,
        #[serde(default)]
        room: BTreeMap<String, Room>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Shelf {
        id: u8,
        #[allow(dead_code, reason = "only its shape matters")]
        side: Side,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Side {
        Left,
        Right,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Room {
        clean: Spanned<Period>,
        #[allow(dead_code, reason = "only its shape matters")]
        size: u8,
    }

    fn errors(text: &str) -> String {
        Source::new("shop.toml", text).parse::<Shop>().unwrap_err().to_string()
    }

    #[test]
    fn parses_with_places() {
        let source = Source::new(
            "shop.toml",
            "owner = \"a\"\nopens-within = \"5m\"\n[[shelf]]\nid = 1\nside = \"left\"\n[room.b]\nclean = \"1h\"\nsize = 1\n",
        );
        let shop: Shop = source.parse().unwrap();
        assert_eq!(shop.opens_within, Some(Period::from_secs(300)));
        assert_eq!(shop.shelf[0].id, 1);
        let clean = &shop.room["b"].clean;
        assert_eq!(&source.text()[clean.span()], "\"1h\"");
    }

    #[test]
    fn finds_everything_in_one_pass() {
        let shown = errors(concat!(
            "opens_within = 5\n",
            "\n",
            "[[shelf]]\n",
            "id = \"one\"\n",
            "side = \"lefft\"\n",
            "colour = \"red\"\n",
            "[[shelf]]\n",
            "id = 300\n",
            "side = 7\n",
            "\n",
            "[room.cellar]\n",
            "clean = \"2 days\"\n",
            "[room.attic]\n",
            "clean = \"2h\"\n",
            "[room]\n",
            "hall = 1\n",
        ));
        assert_eq!(shown, EVERYTHING);
    }

    const EVERYTHING: &str = r#"error: shop.toml: `owner` is missing
hint: add `owner = …`

error: shop.toml:1:1: unknown key `opens_within`
  |
1 | opens_within = 5
  | ^^^^^^^^^^^^
hint: did you mean `opens-within`?

error: shop.toml:4:6: string "one" does not belong here
  |
4 | id = "one"
  |      ^^^^^
hint: write a whole number from 0 to 255

error: shop.toml:5:8: unknown value `lefft`
  |
5 | side = "lefft"
  |        ^^^^^^^
hint: did you mean `left`?

error: shop.toml:6:1: unknown key `colour`
  |
6 | colour = "red"
  | ^^^^^^
hint: known here: id, side

error: shop.toml:8:6: integer `300` does not belong here
  |
8 | id = 300
  |      ^^^
hint: write a whole number from 0 to 255

error: shop.toml:9:8: one of certain words belongs here
  |
9 | side = 7
  |        ^
hint: write it in quotes

error: shop.toml:12:9: "days" in "2 days" is not a unit of time
   |
12 | clean = "2 days"
   |         ^^^^^^^^
hint: write "48h"; the units are ms, s, m and h

error: shop.toml:13:1: `size` is missing here
   |
13 | [room.attic]
   | ^^^^^^^^^^^^
hint: add `size = …`

error: shop.toml:16:8: integer `1` does not belong here
   |
16 | hall = 1
   |        ^
hint: write a table"#;

    #[test]
    fn shows_syntax_errors() {
        let shown = errors("owner = \"a\nopens-within = \"1h\"\nshelf = [\n");
        assert!(shown.starts_with("error: shop.toml:1:11: invalid basic string"), "{shown}");
        assert!(shown.contains("error: shop.toml:3:10: unclosed array"), "{shown}");
        assert!(shown.ends_with("hint: check quotes, brackets and `=`; the format is TOML"), "{shown}");
    }

    #[test]
    fn names_what_cannot_be_read() {
        let missing = Source::read(Path::new("/nonexistent/shop.toml")).unwrap_err().to_string();
        assert_eq!(
            missing,
            "error: /nonexistent/shop.toml: cannot be read: No such file or directory (os error 2)\n\
             hint: create it, or say where it is"
        );
        let directory = Source::read(Path::new("/")).unwrap_err().to_string();
        assert!(directory.ends_with("hint: name a file"), "{directory}");
    }
}
