package policyfile

// TextDiff is the unified diff of two texts without its header; "" if they are
// the same.
func TextDiff(before, after string) string { return unified(before, after) }
