//! Spans by the process that recorded them, as some formats nest them.

use indexmap::IndexMap;

use super::span::{Attributes, Span};
use crate::graph::Name;

/// Spans with the service and the resource that they share, in the order in which these come first.
pub fn by_resource(spans: &[Span]) -> Vec<(&Name, &Attributes, Vec<&Span>)> {
    let mut services: IndexMap<&Name, Vec<(&Attributes, Vec<&Span>)>> = IndexMap::new();
    for span in spans {
        let resources = services.entry(&span.service).or_default();
        let resource: &Attributes = &span.resource;
        // Spans of one process mostly share the allocation; there are few processes of a service.
        match resources
            .iter_mut()
            .find(|(other, _)| std::ptr::eq(*other, resource) || *other == resource)
        {
            Some((_, spans)) => spans.push(span),
            None => resources.push((resource, vec![span])),
        }
    }
    let flat = services.into_iter().flat_map(|(service, resources)| {
        resources.into_iter().map(move |(resource, spans)| (service, resource, spans))
    });
    flat.collect()
}
