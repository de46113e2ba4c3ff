//! Prints the functions with bodies of each file named on standard input, as
//! syn parses them: path, name, line of the name, last line, parted by tabs.
//! A file with syntax errors gives "path<TAB>!".
use std::io::Read;
use syn::spanned::Spanned;
use syn::visit::Visit;

struct Printer<'a> {
    path: &'a str,
}

impl Printer<'_> {
    fn print(&self, sig: &syn::Signature, block: &syn::Block) {
        let first = sig.ident.span().start().line;
        let last = block.span().end().line;
        println!("{}\t{}\t{}\t{}", self.path, sig.ident, first, last);
    }
}

impl<'ast> Visit<'ast> for Printer<'_> {
    fn visit_item_fn(&mut self, f: &'ast syn::ItemFn) {
        self.print(&f.sig, &f.block);
        syn::visit::visit_item_fn(self, f);
    }
    fn visit_impl_item_fn(&mut self, f: &'ast syn::ImplItemFn) {
        self.print(&f.sig, &f.block);
        syn::visit::visit_impl_item_fn(self, f);
    }
    fn visit_trait_item_fn(&mut self, f: &'ast syn::TraitItemFn) {
        if let Some(block) = &f.default {
            self.print(&f.sig, block);
        }
        syn::visit::visit_trait_item_fn(self, f);
    }
}

fn main() {
    let mut names = String::new();
    std::io::stdin().read_to_string(&mut names).expect("paths on standard input");
    for path in names.lines() {
        match std::fs::read_to_string(path).ok().and_then(|text| syn::parse_file(&text).ok()) {
            Some(file) => Printer { path }.visit_file(&file),
            None => println!("{path}\t!"),
        }
    }
}
