//! Dummies for JSON Web Tokens in compact form (RFC 7519, RFC 7515 section 7.1), which clients parse (SPEC
//! B15).
//!
//! The header and the claims about issuer, audience and time stay, since clients look at them before they
//! send the token. All other claims become values of their shape. The signature is random, so the dummy
//! is not a valid token.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Number, Value};

use super::RandomNumbers;
use super::shape;

/// The claims that are kept.
const KEPT: [&str; 5] = ["iss", "aud", "exp", "iat", "nbf"];
/// Shortest signature that makes the dummy hard to guess.
const MIN_SIGNATURE_BYTES: usize = 16;

/// A token like this one; `None` if the value is not a signed token.
pub(super) fn like(value: &str, random: &mut RandomNumbers) -> Option<String> {
    let mut parts = value.split('.');
    let (header, claims, signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    object(header)?.get("alg")?.as_str()?;
    let mut claims = object(claims)?;
    let length = URL_SAFE_NO_PAD.decode(signature).ok()?.len();
    if length < MIN_SIGNATURE_BYTES {
        return None;
    }
    for (name, claim) in &mut claims {
        if !KEPT.contains(&name.as_str()) {
            scramble(claim, random);
        }
    }
    let claims = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&claims).ok()?);
    let signature: Vec<u8> = (0..length)
        .map(|_| u8::try_from(random.below(256)).unwrap_or_default())
        .collect();
    let signature = URL_SAFE_NO_PAD.encode(signature);
    Some(format!("{header}.{claims}.{signature}"))
}

fn object(part: &str) -> Option<Map<String, Value>> {
    let text = URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Replaces a value by one of its shape: names of members, the number of elements and the kinds of
/// characters stay.
fn scramble(value: &mut Value, random: &mut RandomNumbers) {
    match value {
        Value::Null => {}
        Value::Bool(value) => *value = random.below(2) == 1,
        Value::Number(number) => *number = scrambled_number(number, random),
        Value::String(text) => *text = shape::scrambled(text, random),
        Value::Array(values) => values.iter_mut().for_each(|value| scramble(value, random)),
        Value::Object(members) => members
            .values_mut()
            .for_each(|value| scramble(value, random)),
    }
}

/// A number with as many digits.
fn scrambled_number(number: &Number, random: &mut RandomNumbers) -> Number {
    let digits = shape::scrambled(&number.to_string(), random);
    // No zero in front of other digits.
    let first = digits.find(|c: char| c.is_ascii_digit());
    let digits = match first {
        Some(at) if digits[at..].starts_with('0') => {
            format!("{}1{}", &digits[..at], &digits[at + 1..])
        }
        _ => digits,
    };
    serde_json::from_str(&digits).unwrap_or_else(|_| Number::from(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str, claims: &str, signature: &[u8]) -> String {
        [header.as_bytes(), claims.as_bytes(), signature]
            .map(|part| URL_SAFE_NO_PAD.encode(part))
            .join(".")
    }

    const HEADER: &str = r#"{"alg":"RS256","typ":"JWT","kid":"k1"}"#;
    const CLAIMS: &str = r#"{"iss":"https://issuer.test/","aud":["api","other"],"exp":1900000000,"iat":1800000000,"nbf":1800000000,"sub":"auth0|abc123","email":"some.one@corp.test","admin":true,"age":42,"score":1.25,"nested":{"groups":["Wheel","staff"],"none":null}}"#;

    #[test]
    fn b15_a_token_keeps_its_form_and_the_claims_that_clients_look_at() {
        let value = token(HEADER, CLAIMS, &[7; 256]);
        let dummy = like(&value, &mut RandomNumbers::new()).expect("a dummy");
        // `true` and `false` differ in length, and a number may end in zeros.
        assert!(dummy.len().abs_diff(value.len()) <= 4, "{dummy}");
        let parts: Vec<&str> = dummy.split('.').collect();
        assert_eq!(parts[0], value.split('.').next().expect("the header"));
        let claims = object(parts[1]).expect("an object");
        let original: Map<String, Value> = serde_json::from_str(CLAIMS).expect("an object");
        let names: Vec<&String> = original.keys().collect();
        assert_eq!(claims.keys().collect::<Vec<_>>(), names);
        for name in names {
            let is_kept = KEPT.contains(&name.as_str());
            if is_kept || !["admin", "age", "score"].contains(&name.as_str()) {
                assert_eq!(claims[name] == original[name], is_kept, "{name}");
            }
        }
        let subject = claims["sub"].as_str().expect("a text");
        assert_eq!((subject.len(), &subject[5..6]), ("auth0|abc123".len(), "|"));
        let email = claims["email"].as_str().expect("a text");
        assert_eq!(email.matches(['@', '.']).count(), 3, "{email}");
        assert!(
            claims["age"]
                .as_u64()
                .is_some_and(|age| (10..100).contains(&age))
        );
        assert!(claims["admin"].is_boolean());
        let groups = claims["nested"]["groups"].as_array().expect("an array");
        assert_eq!(groups.len(), 2);
        let signature = URL_SAFE_NO_PAD.decode(parts[2]).expect("base64");
        assert_eq!(signature.len(), 256);
        assert_ne!(signature, [7; 256]);
    }

    #[test]
    fn b15_other_texts_are_not_tokens() {
        let valid = token(HEADER, CLAIMS, &[7; 32]);
        assert!(like(&valid, &mut RandomNumbers::new()).is_some());
        for value in [
            "a.b.c".to_owned(),
            format!("{valid}.x"),
            format!("x{valid}"),
            token(HEADER, "[1]", &[7; 32]),
            token("{}", CLAIMS, &[7; 32]),
            token(r#"{"alg":1}"#, CLAIMS, &[7; 32]),
            token(HEADER, CLAIMS, &[7; 15]),
            token(HEADER, CLAIMS, &[]),
        ] {
            assert_eq!(like(&value, &mut RandomNumbers::new()), None, "{value}");
        }
        for end in 0..valid.len() - 24 {
            assert_eq!(
                like(&valid[..end], &mut RandomNumbers::new()),
                None,
                "{end}"
            );
        }
    }
}
