package outside

import (
	"strings"
	"unicode"
)

// Plain judges without a model, by words: the share of the intent's words that
// the text has, forms of them included. It is what callers get who would rather
// have that than nothing, and it is said to be so.
func Plain(intent, text string, threshold float64) Judgement {
	wanted, have := stems(intent), map[string]bool{}
	for _, s := range stems(text) {
		have[s] = true
	}
	if len(wanted) == 0 {
		return Judgement{Reason: "the intent has no words to look for"}
	}
	var found []string
	for _, s := range wanted {
		if have[s] {
			found = append(found, s)
		}
	}
	share := float64(len(found)) / float64(len(wanted))
	reason := "none of the intent's words is in the text"
	if len(found) > 0 {
		reason = "in the text: " + strings.Join(found, ", ")
	}
	return Judgement{Match: share >= threshold, Confidence: share, Reason: clean(reason)}
}

// little are words that say nothing about what a text means.
var little = map[string]bool{
	"the": true, "and": true, "for": true, "that": true, "this": true, "with": true, "from": true, "are": true, "was": true, "any": true, "all": true,
	"not": true, "has": true, "have": true, "into": true, "its": true, "about": true, "user": true, "text": true, "wants": true, "tries": true,
}

// stems are the first letters of a text's words, without common endings, each
// once: forms of a word begin alike.
func stems(text string) (out []string) {
	seen := map[string]bool{}
	for _, w := range strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsNumber(r) }) {
		if little[w] {
			continue
		}
		for _, end := range []string{"ing", "ed", "s"} {
			if short, ok := strings.CutSuffix(w, end); ok && len(short) >= 3 {
				w = short
				break
			}
		}
		letters := []rune(w)
		if len(letters) < 3 {
			continue
		}
		s := string(letters[:min(len(letters), 5)])
		if !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	return out
}
