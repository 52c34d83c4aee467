//! Where this gateway was asked goes in; links in Atlas's form, pointing at this gateway, come out.

use super::query::Form;
use super::query::PageWish;
use crate::atlas::Question;
use crate::cache::Address;

/// The links of one page of a list of `total` certificates.
#[derive(Clone, Copy, Debug)]
pub struct PageLinks<'r> {
    /// How the caller addressed this gateway.
    pub address: Address<'r>,
    /// Whose list it is.
    pub question: &'r Question,
    /// What the caller asked for besides the page; Atlas echoes it.
    pub form: Form,
    /// The page.
    pub page: PageWish,
    /// How many certificates there are on all pages.
    pub total: usize,
}

impl PageLinks<'_> {
    /// Writes the content of `links`: `self`, then `previous` and `next` where there are such pages.
    ///
    /// Atlas writes what the caller sent first, then `pageNum` before `itemsPerPage` in `self`, and the
    /// other way round in the others.
    pub fn write(&self, out: &mut String) {
        let (number, size) = (self.page.number(), self.page.size());
        let page = ("pageNum=", number);
        let items = ("itemsPerPage=", size);
        self.link(out, [page, items], "self");
        let mut other = |number: u32, rel: &str| {
            out.push(',');
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
    fn link(&self, out: &mut String, page: [(&str, u32); 2], rel: &str) {
        out.push_str("{\"href\":\"");
        self.address.push_list(out, self.question);
        let mut sign = '?';
        for (name, value) in [
            ("includeCount=", self.form.include_count),
            ("pretty=", self.form.pretty),
            ("envelope=", self.form.envelope),
        ] {
            if let Some(value) = value {
                out.push(std::mem::replace(&mut sign, '&'));
                out.push_str(name);
                out.push_str(if value { "true" } else { "false" });
            }
        }
        for (name, value) in page {
            out.push(std::mem::replace(&mut sign, '&'));
            out.push_str(name);
            out.push_str(itoa::Buffer::new().format(value));
        }
        end(out, rel);
    }
}

/// The only link of a list that is not paged: itself.
pub fn self_link(out: &mut String, address: Address<'_>, question: &Question) {
    out.push_str("{\"href\":\"");
    address.push_list(out, question);
    end(out, "self");
}

fn end(out: &mut String, rel: &str) {
    out.push_str("\",\"rel\":\"");
    out.push_str(rel);
    out.push_str("\"}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(query: &str, total: usize) -> String {
        let form = Form::read(query).unwrap();
        let mut out = String::new();
        let address = Address {
            scheme: "https",
            host: "gw:8080",
            root: "/api/atlas/v2",
        };
        let question = Question {
            project: "32b6e34b3d91647abb20e7b8".parse().unwrap(),
            username: "CN=a".parse().unwrap(),
        };
        let page = form.page.unwrap();
        PageLinks {
            address,
            question: &question,
            form,
            page,
            total,
        }
        .write(&mut out);
        out.replace(
            "gw:8080/api/atlas/v2/groups/32b6e34b3d91647abb20e7b8/databaseUsers/CN%3Da",
            "gw",
        )
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
