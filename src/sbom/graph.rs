//! What can be reached from where: which packages the app itself needs, and
//! which only its development.

/// For each node whether it can be reached from one of `roots`.
pub(super) fn reached(roots: impl IntoIterator<Item = usize>, edges: &[Vec<usize>]) -> Vec<bool> {
    let mut seen = vec![false; edges.len()];
    let mut waiting: Vec<usize> = roots.into_iter().collect();
    while let Some(node) = waiting.pop() {
        if let Some(fresh) = seen.get_mut(node).filter(|seen| !**seen) {
            *fresh = true;
            waiting.extend(&edges[node]);
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circles_end() {
        let edges = [vec![1], vec![2, 0], vec![], vec![2], vec![99]];
        assert_eq!(reached([0, 4], &edges), [true, true, true, false, true]);
    }
}
