package terminal

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Clean is text made safe to show on one line: what could move the cursor,
// colour the screen or turn the reading direction is spelled out instead.
func Clean(text string) string { return clean(text, "") }

// CleanLines is Clean for text of several lines, whose breaks and tabs stay.
func CleanLines(text string) string { return clean(text, "\n\t") }

func clean(text, keep string) string {
	harmless := func(r rune) bool { return unicode.IsPrint(r) || strings.ContainsRune(keep, r) }
	if utf8.ValidString(text) && strings.IndexFunc(text, func(r rune) bool { return !harmless(r) }) < 0 {
		return text
	}
	var b strings.Builder
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		switch {
		case r == utf8.RuneError && size == 1:
			b.WriteString(`\x` + strconv.FormatUint(uint64(text[0]), 16))
		case harmless(r):
			b.WriteRune(r)
		default:
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		}
		text = text[size:]
	}
	return b.String()
}

// The colours of words that say how things stand.
const (
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	faint  = "\x1b[2m"
	reset  = "\x1b[0m"
)

var tones = map[string]string{
	"ALLOW": green, "ACTIVE": green, "APPROVED": green, "OK": green, "COMPLETED": green, "active": green, "good": green, "verified": green,
	"WARN": yellow, "WARNING": yellow, "REQUIRE_APPROVAL": yellow, "PENDING": yellow, "PAUSED": yellow, "CRITICAL": yellow,
	"DENY": red, "EXCEEDED": red, "REJECTED": red, "TERMINATED": red, "FAILED": red, "SUSPENDED": red,
	"POLICY_VIOLATION": red, "BUDGET_EXCEEDED": red, "EXPIRED": red, "TIMEOUT": red,
	"DRAFT": faint, "INACTIVE": faint, "ARCHIVED": faint, "-": faint,
}

// Paint colours a word that says how something stands; other text stays as it is.
func Paint(word string) string {
	if tone, ok := tones[word]; ok {
		return tone + word + reset
	}
	return word
}

// Diff colours the lines of a unified diff.
func Diff(text string) string {
	lines := strings.SplitAfter(text, "\n")
	for i, line := range lines {
		body, end := strings.CutSuffix(line, "\n")
		tone := ""
		switch {
		case strings.HasPrefix(body, "+"):
			tone = green
		case strings.HasPrefix(body, "-"):
			tone = red
		case strings.HasPrefix(body, "@@"):
			tone = faint
		}
		if tone == "" {
			continue
		}
		lines[i] = tone + body + reset
		if end {
			lines[i] += "\n"
		}
	}
	return strings.Join(lines, "")
}
