//! The links of a list, in Atlas's form, pointing at this gateway.

use crate::server::query::ListForm;

/// Writes the content of `links` of a list of `total` certificates at `url`: `self`, and the `previous` and
/// `next` page where there are such.
///
/// Atlas echoes what the caller sent first, then `pageNum` before `itemsPerPage` in `self`, and the other way
/// round in the others.
pub(super) fn links(out: &mut Vec<u8>, url: &[u8], form: ListForm, total: usize) {
    let Some(page) = form.page else {
        return link(out, url, &[], "self");
    };
    let flags = [
        ("includeCount=", form.include_count),
        ("pretty=", form.pretty),
        ("envelope=", form.envelope),
    ];
    let text = |value: bool| if value { "true" } else { "false" };
    let flags = flags.map(|(name, value)| (name, value.map_or("", text)));
    let [count, pretty, envelope] = flags;
    let (number, size) = (page.number(), page.size());
    let mut digits = itoa::Buffer::new();
    let items = ("itemsPerPage=", digits.format(size));
    let page = |out: &mut Vec<u8>, number: u32, rel: &str| {
        let mut digits = itoa::Buffer::new();
        let page = ("pageNum=", digits.format(number));
        let (first, second) = if rel == "self" {
            (page, items)
        } else {
            out.push(b',');
            (items, page)
        };
        link(out, url, &[count, pretty, envelope, first, second], rel);
    };
    page(out, number, "self");
    if number > 1 {
        page(out, number - 1, "previous");
    }
    let seen = u64::from(number).saturating_mul(u64::from(size));
    if seen < u64::try_from(total).expect("64 bits") {
        page(out, number + 1, "next");
    }
}

/// Parameters without a value are left out.
fn link(out: &mut Vec<u8>, url: &[u8], parameters: &[(&str, &str)], rel: &str) {
    out.extend_from_slice(b"{\"href\":\"");
    out.extend_from_slice(url);
    let given = parameters.iter().filter(|(_, value)| !value.is_empty());
    for (at, (name, value)) in given.enumerate() {
        out.push(if at == 0 { b'?' } else { b'&' });
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(value.as_bytes());
    }
    out.extend_from_slice(b"\",\"rel\":\"");
    out.extend_from_slice(rel.as_bytes());
    out.extend_from_slice(b"\"}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(query: &str, total: usize) -> String {
        let form = ListForm::read(query).unwrap();
        let mut out = Vec::new();
        super::links(&mut out, b"https://gw/certs", form, total);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_page_links_to_its_neighbours_as_atlas_does() {
        assert_eq!(
            links("pageNum=2&includeCount=true", 201),
            "{\"href\":\"https://gw/certs?includeCount=true&pageNum=2&itemsPerPage=100\",\"rel\":\"self\"},\
             {\"href\":\"https://gw/certs?includeCount=true&itemsPerPage=100&pageNum=1\",\"rel\":\"previous\"},\
             {\"href\":\"https://gw/certs?includeCount=true&itemsPerPage=100&pageNum=3\",\"rel\":\"next\"}"
        );
        assert!(!links("pageNum=2", 200).contains("next"));
        assert!(!links("itemsPerPage=500", 500).contains("previous"));
    }
}
