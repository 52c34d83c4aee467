//! Where this gateway was asked goes in; links in Atlas's form, pointing at this gateway, come out.

use super::query::{Form, PageQuery};

/// The links of one page of a list of `total` certificates.
#[derive(Clone, Copy, Debug)]
pub struct PageLinks<'r> {
    /// Where the list is, without a query, as a part of a JSON text.
    pub url: &'r [u8],
    /// What the caller asked for besides the page; Atlas echoes it.
    pub form: Form,
    /// The page.
    pub page: PageQuery,
    /// How many certificates there are on all pages.
    pub total: usize,
}

impl PageLinks<'_> {
    /// Writes the content of `links`: `self`, then `previous` and `next` where there are such pages.
    ///
    /// Atlas writes what the caller sent first, then `pageNum` before `itemsPerPage` in `self`, and the
    /// other way round in the others.
    pub fn write(&self, out: &mut Vec<u8>) {
        let (number, size) = (self.page.number(), self.page.size());
        let page = ("pageNum=", number);
        let items = ("itemsPerPage=", size);
        self.link(out, [page, items], "self");
        let mut other = |number: u32, rel: &str| {
            out.push(b',');
            self.link(out, [items, ("pageNum=", number)], rel);
        };
        if number > 1 {
            other(number - 1, "previous");
        }
        let seen = u64::from(number).saturating_mul(u64::from(size));
        if u64::try_from(self.total).is_ok_and(|total| seen < total) {
            other(number + 1, "next");
        }
    }

    // By hand, as the usual answer's: formatting cost more than the list's own bytes.
    fn link(&self, out: &mut Vec<u8>, page: [(&str, u32); 2], rel: &str) {
        out.extend_from_slice(b"{\"href\":\"");
        out.extend_from_slice(self.url);
        let mut sign = b'?';
        for (name, value) in [
            ("includeCount=", self.form.include_count),
            ("pretty=", self.form.pretty),
            ("envelope=", self.form.envelope),
        ] {
            if let Some(value) = value {
                out.push(std::mem::replace(&mut sign, b'&'));
                out.extend_from_slice(name.as_bytes());
                out.extend_from_slice(if value { b"true" } else { b"false" });
            }
        }
        for (name, value) in page {
            out.push(std::mem::replace(&mut sign, b'&'));
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        }
        end(out, rel);
    }
}

/// The only link of a list that is not paged: itself.
pub fn self_link(out: &mut Vec<u8>, url: &[u8]) {
    out.extend_from_slice(b"{\"href\":\"");
    out.extend_from_slice(url);
    end(out, "self");
}

fn end(out: &mut Vec<u8>, rel: &str) {
    out.extend_from_slice(b"\",\"rel\":\"");
    out.extend_from_slice(rel.as_bytes());
    out.extend_from_slice(b"\"}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(query: &str, total: usize) -> String {
        let form = Form::read(query).unwrap();
        let mut out = Vec::new();
        let page = form.page.unwrap();
        PageLinks {
            url: b"https://gw/certs",
            form,
            page,
            total,
        }
        .write(&mut out);
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
