package decision

import governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"

// Acts reports whether a decision lets the action happen.
func Acts(d governancev1.Decision) bool { return d == allow || d == warn }

// Took reports whether a decision took something that releasing it gives back.
func Took(r *governancev1.AuthorizeResponse) bool {
	return Acts(r.GetDecision()) && (r.GetHold() != nil || limited(r.GetObligations()))
}

// Changed names the obligation by which a decision allows another action than
// the one that was asked about: "" if there is none. A door whose callers may
// not know obligations must refuse then.
func Changed(r *governancev1.AuthorizeResponse) string {
	if !Acts(r.GetDecision()) {
		return ""
	}
	for _, o := range r.GetObligations() {
		if o.GetType() == "MODIFY" || o.GetType() == "REDIRECT" {
			return o.GetType()
		}
	}
	return ""
}
