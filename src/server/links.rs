//! Where this gateway was asked goes in; links in Atlas's form, pointing at this gateway, come out.

use std::fmt;
use std::fmt::Write;

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

/// The address of a list, without a query.
struct ListAddress<'r>(Address<'r>, &'r Question);

impl fmt::Display for ListAddress<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(Address { scheme, host, root }, Question { project, username }) = self;
        let username = username.to_path_segment();
        write!(
            f,
            "{scheme}://{host}{root}/groups/{project}/databaseUsers/{username}/certs"
        )
    }
}

impl PageLinks<'_> {
    /// Writes the content of `links`: `self`, then `previous` and `next` where there are such pages.
    ///
    /// Atlas writes what the caller sent first, then `pageNum` before `itemsPerPage` in `self`, and the
    /// other way round in the others.
    pub fn write(&self, out: &mut String) {
        let (number, size) = (self.page.number(), self.page.size());
        let echo = self.echo();
        let address = ListAddress(self.address, self.question);
        link(
            out,
            &format_args!("{address}?{echo}pageNum={number}&itemsPerPage={size}"),
            "self",
        );
        let mut other = |number: u32, rel: &str| {
            out.push(',');
            link(
                out,
                &format_args!("{address}?{echo}itemsPerPage={size}&pageNum={number}"),
                rel,
            );
        };
        if number > 1 {
            other(number - 1, "previous");
        }
        let seen = u64::from(number).saturating_mul(u64::from(size));
        if u64::try_from(self.total).is_ok_and(|total| seen < total) {
            other(number + 1, "next");
        }
    }

    fn echo(&self) -> String {
        let sent = [
            ("includeCount", self.form.include_count),
            ("pretty", self.form.pretty),
            ("envelope", self.form.envelope),
        ];
        sent.iter()
            .filter_map(|(name, value)| value.map(|value| format!("{name}={value}&")))
            .collect()
    }
}

/// The only link of a list that is not paged: itself.
pub fn self_link(out: &mut String, address: Address<'_>, question: &Question) {
    link(out, &ListAddress(address, question), "self");
}

fn link(out: &mut String, href: &impl fmt::Display, rel: &str) {
    let href = serde_json::Value::String(href.to_string());
    // Writing to a string cannot fail.
    let _ = write!(out, "{{\"href\":{href},\"rel\":\"{rel}\"}}");
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
