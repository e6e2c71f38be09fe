//! Where in a file a fault belongs: the expression, the body or the arm that it changes.
//!
//! Promise: a place is the syntax tree's, never a guess at where an operand ends; and what cannot
//! be switched while a program runs (constants, patterns, conditions that bind) says so.

use std::ops::Range;

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// How a fault is put behind a switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// The body returns before its first statement.
    Body,
    /// An arm's pattern does not match.
    Arm,
    /// The whole expression is there twice.
    Expression,
}

/// Where a fault belongs, in bytes of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub form: Form,
    /// What is switched: of an arm, the end of its pattern.
    pub range: Range<usize>,
    /// The function around it.
    pub function: Range<usize>,
    /// That function's name, and the word `const` before it, which a switch cannot stand under.
    pub constant: Option<(String, Range<usize>)>,
}

/// Finds the place of what `span` covers; or says why it cannot be switched.
pub fn find(file: &syn::File, span: &Range<usize>) -> Result<Place, &'static str> {
    let mut search = Search { span, functions: Vec::new(), fixed: 0, found: None };
    search.visit_file(file);
    search.found.unwrap_or(Err("nothing that can be switched is there"))
}

struct Function {
    range: Range<usize>,
    constant: Option<(String, Range<usize>)>,
}

struct Search<'a> {
    span: &'a Range<usize>,
    /// From the outermost to the one that is looked at.
    functions: Vec<Function>,
    /// How many constants and patterns are around.
    fixed: usize,
    found: Option<Result<Place, &'static str>>,
}

fn range(node: &impl Spanned) -> Range<usize> {
    let span: proc_macro2::Span = node.span();
    span.byte_range()
}

impl Search<'_> {
    fn found(&mut self, form: Form, range: Range<usize>) {
        self.found = Some(match self.functions.last() {
            Some(Function { range: function, constant }) if self.fixed == 0 => {
                Ok(Place { form, range, function: function.clone(), constant: constant.clone() })
            }
            _ => Err("a constant or a pattern"),
        });
    }

    fn function(&mut self, signature: &syn::Signature, whole: Range<usize>, body: &syn::Block) {
        let name = || signature.ident.to_string();
        let constant = signature.constness.as_ref().map(|word| (name(), range(word)));
        self.functions.push(Function { range: whole, constant });
        if let (Some(first), Some(last)) = (body.stmts.first(), body.stmts.last()) {
            let inside = range(first).start..range(last).end;
            if inside == *self.span {
                self.found(Form::Body, inside);
                if hides_its_type(&signature.output) {
                    self.found = Some(Err("the type of what it returns is its body's"));
                }
            }
        }
    }

    fn fixed(&mut self, walk: impl FnOnce(&mut Self)) {
        self.fixed += 1;
        walk(self);
        self.fixed -= 1;
    }
}

/// Whether `impl` stands in what a function returns: there, both ways out have to be one type.
fn hides_its_type(output: &syn::ReturnType) -> bool {
    struct Hides(bool);
    impl Visit<'_> for Hides {
        fn visit_type_impl_trait(&mut self, _: &syn::TypeImplTrait) {
            self.0 = true;
        }
    }
    let mut hides = Hides(false);
    hides.visit_return_type(output);
    hides.0
}

/// Whether a condition binds names, for which it has to stay where it is.
fn binds(expression: &syn::Expr) -> bool {
    match expression {
        syn::Expr::Let(_) => true,
        syn::Expr::Binary(both) => binds(&both.left) || binds(&both.right),
        _ => false,
    }
}

impl<'ast> Visit<'ast> for Search<'_> {
    fn visit_item_fn(&mut self, node: &'ast syn::ItemFn) {
        self.function(&node.sig, range(node), &node.block);
        visit::visit_item_fn(self, node);
        self.functions.pop();
    }

    fn visit_impl_item_fn(&mut self, node: &'ast syn::ImplItemFn) {
        self.function(&node.sig, range(node), &node.block);
        visit::visit_impl_item_fn(self, node);
        self.functions.pop();
    }

    fn visit_trait_item_fn(&mut self, node: &'ast syn::TraitItemFn) {
        let Some(body) = &node.default else { return };
        self.function(&node.sig, range(node), body);
        visit::visit_trait_item_fn(self, node);
        self.functions.pop();
    }

    fn visit_expr_binary(&mut self, node: &'ast syn::ExprBinary) {
        if range(&node.op) == *self.span {
            self.found(Form::Expression, range(node));
            if binds(&node.left) || binds(&node.right) {
                self.found = Some(Err("a condition that binds"));
            }
        }
        visit::visit_expr_binary(self, node);
    }

    fn visit_expr_unary(&mut self, node: &'ast syn::ExprUnary) {
        if range(&node.op) == *self.span {
            self.found(Form::Expression, range(node));
        }
        visit::visit_expr_unary(self, node);
    }

    fn visit_expr_struct(&mut self, node: &'ast syn::ExprStruct) {
        let within = |field: &syn::FieldValue| range(field).start == self.span.start;
        if node.rest.is_some() && node.fields.iter().any(within) {
            self.found(Form::Expression, range(node));
        }
        visit::visit_expr_struct(self, node);
    }

    fn visit_arm(&mut self, node: &'ast syn::Arm) {
        match &node.guard {
            Some((_, guard)) if range(&**guard) == *self.span => {
                self.found(Form::Expression, self.span.clone());
                if binds(guard) {
                    self.found = Some(Err("a condition that binds"));
                }
            }
            None if range(node) == *self.span => {
                let end = range(&node.pat).end;
                self.found(Form::Arm, end..end);
            }
            _ => {}
        }
        visit::visit_arm(self, node);
    }

    fn visit_pat(&mut self, node: &'ast syn::Pat) {
        self.fixed(|search| visit::visit_pat(search, node));
    }

    fn visit_expr_const(&mut self, node: &'ast syn::ExprConst) {
        self.fixed(|search| visit::visit_expr_const(search, node));
    }

    fn visit_expr_repeat(&mut self, node: &'ast syn::ExprRepeat) {
        self.visit_expr(&node.expr);
        self.fixed(|search| search.visit_expr(&node.len));
    }

    fn visit_type(&mut self, node: &'ast syn::Type) {
        self.fixed(|search| visit::visit_type(search, node));
    }

    fn visit_item_const(&mut self, node: &'ast syn::ItemConst) {
        self.fixed(|search| visit::visit_item_const(search, node));
    }

    fn visit_impl_item_const(&mut self, node: &'ast syn::ImplItemConst) {
        self.fixed(|search| visit::visit_impl_item_const(search, node));
    }

    fn visit_item_static(&mut self, node: &'ast syn::ItemStatic) {
        self.fixed(|search| visit::visit_item_static(search, node));
    }
}
