//! Floats in JSON, where a value that is not finite is the string `NaN`, `Infinity` or `-Infinity` instead of a silent `null`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A float that survives JSON whatever it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Number(pub(crate) f64);

/// The shortest text that reads back equal; the three names when not finite.
pub(crate) fn text(value: f64) -> String {
    serde_json::Number::from_f64(value).map_or_else(|| name(value).to_owned(), |number| number.to_string())
}

fn name(value: f64) -> &'static str {
    if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_finite() { serializer.serialize_f64(self.0) } else { serializer.serialize_str(name(self.0)) }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Float(f64),
    Name(String),
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Written::deserialize(deserializer)? {
            Written::Float(value) => Ok(Self(value)),
            Written::Name(name) => match name.as_str() {
                "NaN" => Ok(Self(f64::NAN)),
                "Infinity" => Ok(Self(f64::INFINITY)),
                "-Infinity" => Ok(Self(f64::NEG_INFINITY)),
                other => Err(serde::de::Error::custom(format!("expected a number, `NaN`, `Infinity` or `-Infinity`, found `{other}`"))),
            },
        }
    }
}

/// For `#[serde(serialize_with)]` on a float.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
pub(crate) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    Number(*value).serialize(serializer)
}

/// For `#[serde(with)]` on a map of floats.
pub(crate) mod map {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::Number;

    pub(crate) fn serialize<S: Serializer>(map: &BTreeMap<String, f64>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(map.iter().map(|(key, value)| (key, Number(*value))))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, f64>, D::Error> {
        let map = BTreeMap::<String, Number>::deserialize(deserializer)?;
        Ok(map.into_iter().map(|(key, number)| (key, number.0)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_are_not_finite_are_named() {
        let json = |value| serde_json::to_string(&Number(value)).unwrap();
        assert_eq!(json(1.5), "1.5");
        assert_eq!([json(f64::NAN), json(f64::INFINITY), json(f64::NEG_INFINITY)], ["\"NaN\"", "\"Infinity\"", "\"-Infinity\""]);
        assert_eq!([text(3e-4), text(f64::NEG_INFINITY), text(2.0)], ["0.0003", "-Infinity", "2.0"]);
        assert_eq!(serde_json::from_str::<Number>("3").unwrap(), Number(3.0));
        assert_eq!(serde_json::from_str::<Number>("\"-Infinity\"").unwrap(), Number(f64::NEG_INFINITY));
        assert!(serde_json::from_str::<Number>("\"NaN\"").unwrap().0.is_nan());
        assert!(serde_json::from_str::<Number>("\"nan?\"").is_err() && serde_json::from_str::<Number>("null").is_err());
    }
}
