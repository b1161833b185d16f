//! The functions that Docker's client adds to Go's own.

use gtmpl_ng::{Func, FuncError, Value};

use super::value::to_json;

/// For rows and whole objects.
pub(super) const ROWS: &[(&str, Func)] = &[
    ("json", json),
    ("join", join),
    ("upper", upper),
    ("lower", lower),
    ("title", title),
    ("split", split),
    ("pad", pad),
    ("truncate", truncate),
];

/// For the line of headers.
pub(super) const HEADERS: &[(&str, Func)] = &[
    ("json", first),
    ("join", first),
    ("upper", first),
    ("lower", first),
    ("title", first),
    ("split", first),
    ("pad", pad),
    ("truncate", first),
];

/// Widest padding, so that a slip of the finger is no flood.
const PAD_MAX: usize = 1_000;

fn first(args: &[Value]) -> Result<Value, FuncError> {
    args.first()
        .cloned()
        .ok_or_else(|| FuncError::AtLeastXArgs("function".into(), 1))
}

fn text(name: &str, args: &[Value], at: usize) -> Result<String, FuncError> {
    match args.get(at) {
        Some(value) => Ok(value.to_string()),
        None => Err(FuncError::ExactlyXArgs(name.to_owned(), at + 1)),
    }
}

fn number(name: &str, args: &[Value], at: usize) -> Result<usize, FuncError> {
    match args.get(at) {
        Some(Value::Number(n)) => n
            .as_u64()
            .and_then(|n| usize::try_from(n).ok())
            .ok_or_else(|| FuncError::Generic(format!("{name}: {n} is no count"))),
        Some(other) => Err(FuncError::Generic(format!("{name}: {other} is no number"))),
        None => Err(FuncError::ExactlyXArgs(name.to_owned(), at + 1)),
    }
}

fn json(args: &[Value]) -> Result<Value, FuncError> {
    let value = first(args)?;
    Ok(Value::String(to_json(&value).to_string()))
}

fn join(args: &[Value]) -> Result<Value, FuncError> {
    let separator = text("join", args, 1)?;
    match args.first() {
        Some(Value::Array(items)) => {
            let items: Vec<String> = items.iter().map(ToString::to_string).collect();
            Ok(Value::String(items.join(&separator)))
        }
        Some(Value::Nil | Value::NoValue) => Ok(Value::String(String::new())),
        Some(other) => Err(FuncError::Generic(format!("join: {other} is no list"))),
        None => Err(FuncError::ExactlyXArgs("join".into(), 2)),
    }
}

fn upper(args: &[Value]) -> Result<Value, FuncError> {
    Ok(Value::String(text("upper", args, 0)?.to_uppercase()))
}

fn lower(args: &[Value]) -> Result<Value, FuncError> {
    Ok(Value::String(text("lower", args, 0)?.to_lowercase()))
}

fn title(args: &[Value]) -> Result<Value, FuncError> {
    let mut begins = true;
    let mut titled = String::new();
    for c in text("title", args, 0)?.chars() {
        if begins {
            titled.extend(c.to_uppercase());
        } else {
            titled.push(c);
        }
        begins = !c.is_alphanumeric();
    }
    Ok(Value::String(titled))
}

fn split(args: &[Value]) -> Result<Value, FuncError> {
    let (whole, separator) = (text("split", args, 0)?, text("split", args, 1)?);
    let parts = whole.split(separator.as_str()).map(Value::from);
    Ok(Value::Array(parts.collect()))
}

fn pad(args: &[Value]) -> Result<Value, FuncError> {
    let middle = text("pad", args, 0)?;
    let (before, after) = (number("pad", args, 1)?, number("pad", args, 2)?);
    if middle.is_empty() {
        return Ok(Value::String(middle));
    }
    let spaces = |n: usize| " ".repeat(n.min(PAD_MAX));
    Ok(Value::String(format!(
        "{}{middle}{}",
        spaces(before),
        spaces(after)
    )))
}

fn truncate(args: &[Value]) -> Result<Value, FuncError> {
    let (whole, length) = (text("truncate", args, 0)?, number("truncate", args, 1)?);
    Ok(Value::String(whole.chars().take(length).collect()))
}
