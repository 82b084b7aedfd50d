//! Lenient reading of one JSON object.

use serde_json::{Map, Value};

use super::{MAX_DEVICE_LIST, MAX_MESSAGE_BYTES};
use crate::refusal::{Field, Refusal, Unit, quote};

/// Something a device may send.
pub trait FromDevice: Sized {
    /// Reads it from the fields of an object.
    fn from_fields(fields: &Fields<'_>) -> Result<Self, Refusal>;
}

/// Reads a message of at most [`MAX_MESSAGE_BYTES`]. The refusal's Vietnamese words are meant for `MoTa`.
pub fn read<T: FromDevice>(bytes: &[u8]) -> Result<T, Refusal> {
    if bytes.len() > MAX_MESSAGE_BYTES {
        return Err(Refusal::EventTooLarge { given: bytes.len(), max: MAX_MESSAGE_BYTES });
    }
    let value: Value = serde_json::from_slice(bytes).map_err(|_| not_an_object("", &String::from_utf8_lossy(bytes)))?;
    read_value(&value)
}

/// Reads an object that was parsed already.
pub fn read_value<T: FromDevice>(value: &Value) -> Result<T, Refusal> {
    let map = value.as_object().ok_or_else(|| not_an_object("", &value.to_string()))?;
    T::from_fields(&Fields { map, path: String::new() })
}

fn not_an_object(path: &str, given: &str) -> Refusal {
    let name = if path.is_empty() { "JSON" } else { path };
    malformed(Field::new(path, name, name), given, "đối tượng JSON {…}", "a JSON object {…}")
}

fn malformed(field: Field, given: &str, vi: &str, en: &str) -> Refusal {
    Refusal::Malformed { field, given: quote(given), expected_vi: vi.into(), expected_en: en.into() }
}

/// The fields of one object, and where it stands in the message.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    map: &'a Map<String, Value>,
    path: String,
}

impl<'a> Fields<'a> {
    /// The field's path, as devices name it; it is its own label in both languages.
    pub(crate) fn field(&self, name: &str) -> Field {
        let path = if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
        Field::new(path.clone(), path.clone(), path)
    }

    /// The value under this name, whatever the case of the last letter. Null counts as absent.
    fn get(&self, name: &str) -> Option<&'a Value> {
        let found = self.map.get(name).or_else(|| {
            let but_last = name.len().saturating_sub(1);
            let same = |key: &str| {
                key.eq_ignore_ascii_case(name) && key.as_bytes().get(..but_last) == name.as_bytes().get(..but_last)
            };
            self.map.iter().find(|(key, _)| same(key)).map(|(_, value)| value)
        });
        found.filter(|value| !value.is_null())
    }

    /// Whatever stands there.
    pub(crate) fn value(&self, name: &str) -> Option<Value> {
        self.get(name).cloned()
    }

    /// Whether something stands there.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// A text of at most `max` characters; empty when absent.
    pub(crate) fn text(&self, name: &str, max: usize) -> Result<String, Refusal> {
        let text = match self.get(name) {
            None => String::new(),
            Some(Value::String(text)) => text.trim().to_owned(),
            Some(Value::Number(number)) => number.to_string(),
            Some(Value::Bool(flag)) => flag.to_string(),
            Some(other) => return Err(malformed(self.field(name), &other.to_string(), "chữ", "text")),
        };
        let given = text.chars().count();
        if given > max {
            return Err(Refusal::TooLong { field: self.field(name), given, max, unit: Unit::Characters });
        }
        Ok(text)
    }

    /// A text that has to be there.
    pub(crate) fn required(&self, name: &str, max: usize) -> Result<String, Refusal> {
        let text = self.text(name, max)?;
        if text.is_empty() { Err(Refusal::Required { field: self.field(name) }) } else { Ok(text) }
    }

    /// Free-form telemetry: text as it is, anything else as JSON.
    pub(crate) fn anything(&self, name: &str, max: usize) -> Result<String, Refusal> {
        match self.get(name) {
            Some(value @ (Value::Array(_) | Value::Object(_))) => {
                let text = value.to_string();
                let given = text.chars().count();
                if given > max {
                    return Err(Refusal::TooLong { field: self.field(name), given, max, unit: Unit::Characters });
                }
                Ok(text)
            }
            _ => self.text(name, max),
        }
    }

    /// A whole number within bounds; none when absent or blank. Decimals are cut off: devices send `80.0` and `80.4`.
    pub(crate) fn integer(&self, name: &str, min: i64, max: i64) -> Result<Option<i64>, Refusal> {
        let text = match self.get(name) {
            None => return Ok(None),
            Some(Value::String(text)) => text.trim().to_owned(),
            Some(Value::Number(number)) => number.to_string(),
            Some(Value::Bool(flag)) => u8::from(*flag).to_string(),
            Some(other) => {
                return Err(Refusal::NotANumber { field: self.field(name), given: quote(&other.to_string()) });
            }
        };
        if text.is_empty() {
            return Ok(None);
        }
        let (whole, decimals) = text.split_once('.').unwrap_or((&text, "0"));
        let number = whole.parse::<i64>().ok().filter(|_| decimals.bytes().all(|byte| byte.is_ascii_digit()));
        let Some(number) = number else {
            return Err(Refusal::NotANumber { field: self.field(name), given: quote(&text) });
        };
        if !(min..=max).contains(&number) {
            return Err(Refusal::OutOfRange { field: self.field(name), given: quote(&text), min, max });
        }
        Ok(Some(number))
    }

    /// Degrees in millionths, from a number or a text; none when absent, blank or zero-length.
    pub(crate) fn degrees(&self, name: &str, limit: i64) -> Result<Option<i32>, Refusal> {
        let text = match self.get(name) {
            None => return Ok(None),
            Some(Value::String(text)) => text.trim().replace(',', "."),
            Some(Value::Number(number)) => number.to_string(),
            Some(other) => other.to_string(),
        };
        if text.is_empty() {
            return Ok(None);
        }
        let Some(degrees) = text.parse::<f64>().ok().filter(|degrees| degrees.is_finite()) else {
            return Err(Refusal::NotANumber { field: self.field(name), given: quote(&text) });
        };
        let out = Refusal::OutOfRange { field: self.field(name), given: quote(&text), min: -limit, max: limit };
        // At most 180 million: exact in a float, and within 32 bits.
        if degrees.abs() > limit as f64 { Err(out) } else { Ok(Some((degrees * 1e6).round() as i32)) }
    }

    /// A flag: true, 1, `"1"`, `"true"`; anything else is false.
    pub(crate) fn flag(&self, name: &str) -> bool {
        match self.get(name) {
            Some(Value::Bool(flag)) => *flag,
            Some(Value::Number(number)) => number.as_i64() == Some(1),
            Some(Value::String(text)) => text == "1" || text.eq_ignore_ascii_case("true"),
            _ => false,
        }
    }

    /// An object inside; none when absent.
    pub(crate) fn object(&self, name: &str) -> Result<Option<Fields<'a>>, Refusal> {
        let path = self.field(name).path.clone();
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Fields { map, path })),
            Some(other) => Err(not_an_object(&path, &other.to_string())),
        }
    }

    /// A list of objects; empty when absent.
    pub(crate) fn objects<T: FromDevice>(&self, name: &str) -> Result<Vec<T>, Refusal> {
        let read = |(index, item): (usize, &'a Value)| {
            let path = format!("{}[{index}]", self.field(name).path);
            let map = item.as_object().ok_or_else(|| not_an_object(&path, &item.to_string()))?;
            T::from_fields(&Fields { map, path })
        };
        self.list(name)?.iter().enumerate().map(read).collect()
    }

    /// A list of texts; a single text counts as a list of one.
    pub(crate) fn texts(&self, name: &str, max: usize) -> Result<Vec<String>, Refusal> {
        if matches!(self.get(name), Some(Value::String(_) | Value::Number(_))) {
            return Ok(vec![self.text(name, max)?]);
        }
        let read = |(index, item): (usize, &Value)| {
            let text = match item {
                Value::String(text) => text.trim().to_owned(),
                Value::Number(number) => number.to_string(),
                other => {
                    let field = self.field(&format!("{name}[{index}]"));
                    return Err(malformed(field, &other.to_string(), "chữ", "text"));
                }
            };
            let given = text.chars().count();
            if given > max {
                let field = self.field(&format!("{name}[{index}]"));
                return Err(Refusal::TooLong { field, given, max, unit: Unit::Characters });
            }
            Ok(text)
        };
        self.list(name)?.iter().enumerate().map(read).collect()
    }

    fn list(&self, name: &str) -> Result<&'a [Value], Refusal> {
        match self.get(name) {
            None => Ok(&[]),
            Some(Value::Array(items)) if items.len() > MAX_DEVICE_LIST => {
                Err(Refusal::TooMany { field: self.field(name), given: items.len(), max: MAX_DEVICE_LIST })
            }
            Some(Value::Array(items)) => Ok(items),
            Some(other) => Err(malformed(self.field(name), &other.to_string(), "danh sách […]", "a list […]")),
        }
    }
}
