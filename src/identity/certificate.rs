//! The client certificate of a TLS handshake: its names as RFC 4514 writes them, and its thumbprint.

use std::fmt::Write;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// The certificate that a caller has shown, and has the private key of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    /// Its subject as RFC 4514 writes it: `CN=payments,O=Example\, Inc`. `None` if it cannot be read.
    pub subject: Option<String>,
    /// Its alternative names that are URIs or names of hosts: `URI:spiffe://example.org/payments`,
    /// `DNS:payments.internal.example`.
    pub names: Vec<String>,
    /// Which certificate it is.
    pub thumbprint: Thumbprint,
}

/// SHA-256 of a certificate's DER, which RFC 8705 calls `x5t#S256`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thumbprint([u8; digest::SHA256_OUTPUT_LEN]);

impl PeerCertificate {
    /// Reads a certificate that TLS has verified.
    pub fn read(der: &[u8]) -> Self {
        let parsed = x509_parser::parse_x509_certificate(der).ok();
        let certificate = parsed.as_ref().map(|(_, certificate)| certificate);
        Self {
            subject: certificate.map(|certificate| distinguished_name(certificate.subject())),
            names: certificate.map(alternative_names).unwrap_or_default(),
            thumbprint: Thumbprint::of(der),
        }
    }
}

impl Thumbprint {
    fn of(der: &[u8]) -> Self {
        let mut bytes = [0; digest::SHA256_OUTPUT_LEN];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, der).as_ref());
        Self(bytes)
    }

    pub(super) fn read(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        bytes.try_into().ok().map(Self)
    }
}

fn alternative_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let extension = certificate.subject_alternative_name().ok().flatten();
    let names = extension.iter().flat_map(|it| &it.value.general_names);
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(format!("DNS:{name}")),
        GeneralName::URI(uri) => Some(format!("URI:{uri}")),
        GeneralName::DirectoryName(_)
        | GeneralName::EDIPartyName(_)
        | GeneralName::IPAddress(_)
        | GeneralName::Invalid(_, _)
        | GeneralName::OtherName(_, _)
        | GeneralName::RFC822Name(_)
        | GeneralName::RegisteredID(_)
        | GeneralName::X400Address(_) => None,
    });
    names.collect()
}

/// RFC 4514, section 2.1: "starting with the last element of the sequence and moving backwards toward the
/// first".
fn distinguished_name(name: &X509Name<'_>) -> String {
    let sets: Vec<_> = name.iter_rdn().collect();
    let mut text = String::new();
    for (place, set) in sets.into_iter().rev().enumerate() {
        if place > 0 {
            text.push(',');
        }
        for (place, attribute) in set.iter().enumerate() {
            if place > 0 {
                text.push('+');
            }
            write_attribute(&mut text, attribute);
        }
    }
    text
}

fn write_attribute(text: &mut String, attribute: &AttributeTypeAndValue<'_>) {
    let kind = attribute.attr_type().to_id_string();
    let short = NAMES
        .iter()
        .find(|(id, _)| *id == kind)
        .map(|(_, name)| *name);
    let value = attribute.as_str().ok();
    text.push_str(short.unwrap_or(&kind));
    text.push('=');
    match (short, value) {
        (Some(_), Some(value)) => write_escaped(text, value),
        // Section 2.4: of a kind without a name, or not known to be text.
        (_, _) => write_hexadecimal(text, attribute),
    }
}

/// Section 2.4. What has no short name there has its control characters escaped as well, though that is
/// not demanded: a record shows them as they are told apart.
fn write_escaped(text: &mut String, value: &str) {
    let last = value.chars().count().saturating_sub(1);
    for (place, sign) in value.chars().enumerate() {
        let at_an_end = place == 0 || place == last;
        match sign {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => text.extend(['\\', sign]),
            '#' if place == 0 => text.push_str("\\#"),
            ' ' if at_an_end => text.push_str("\\ "),
            sign if sign.is_control() => {
                let mut bytes = [0; 4];
                for byte in sign.encode_utf8(&mut bytes).bytes() {
                    write!(text, "\\{byte:02X}").expect("a string takes everything");
                }
            }
            sign => text.push(sign),
        }
    }
}

fn write_hexadecimal(text: &mut String, attribute: &AttributeTypeAndValue<'_>) {
    text.push('#');
    for byte in der(attribute) {
        write!(text, "{byte:02x}").expect("a string takes everything");
    }
}

fn der(attribute: &AttributeTypeAndValue<'_>) -> Vec<u8> {
    use x509_parser::asn1_rs::ToDer;
    attribute.attr_value().to_der_vec().unwrap_or_default()
}

/// RFC 4514, section 3: the names that every reader knows.
const NAMES: [(&str, &str); 9] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_escaped_so_that_it_cannot_be_taken_for_two() {
        for (value, expected) in [
            ("payments", "payments"),
            ("evil, CN=alice", "evil\\, CN=alice"),
            ("a+b;c<d>e\\f\"g=h", "a\\+b\\;c\\<d\\>e\\\\f\\\"g=h"),
            (" a b ", "\\ a b\\ "),
            (" ", "\\ "),
            ("#a#", "\\#a#"),
            ("a\0b\nc\u{85}", "a\\00b\\0Ac\\C2\\85"),
            ("Jürgen", "Jürgen"),
            ("", ""),
        ] {
            let mut text = String::new();
            write_escaped(&mut text, value);
            assert_eq!(text, expected, "{value:?}");
        }
    }

    #[test]
    fn a_thumbprint_is_32_bytes_in_the_one_spelling_of_base64url() {
        let text = URL_SAFE_NO_PAD.encode([0xfb; 32]);
        assert_eq!(Thumbprint::read(&text), Some(Thumbprint([0xfb; 32])));
        for other in [
            format!("{text}="),
            text.replace('-', "+"),
            URL_SAFE_NO_PAD.encode([0xfb; 31]),
            URL_SAFE_NO_PAD.encode([0xfb; 33]),
            String::new(),
        ] {
            assert_eq!(Thumbprint::read(&other), None, "{other}");
        }
    }
}
