package door

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// ruleOf is a method's REST form in the contract, nil if it has none.
func ruleOf(m protoreflect.MethodDescriptor) *annotations.HttpRule {
	rule, _ := proto.GetExtension(m.Options(), annotations.E_Http).(*annotations.HttpRule)
	return rule
}

func hasREST(m protoreflect.MethodDescriptor) bool { return ruleOf(m) != nil }

// restAt calls by the REST form that the contract gives a method, below a
// prefix.
func restAt(base, prefix string) caller {
	return func(ctx context.Context, key string, m protoreflect.MethodDescriptor, req proto.Message) (Answer, error) {
		hr, err := restRequest(ctx, base+prefix, ruleOf(m), req)
		if err != nil {
			return Answer{}, err
		}
		authorize(hr, key)
		resp, err := client.Do(hr)
		if err != nil {
			return Answer{}, err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			return Answer{}, err
		}
		if resp.StatusCode != http.StatusOK {
			return Problem(resp.StatusCode, resp.Header, text)
		}
		out, err := New(m.Output())
		if err != nil {
			return Answer{}, err
		}
		return Answer{Status: resp.StatusCode, Body: out}, protojson.Unmarshal(text, out)
	}
}

var placeholder = regexp.MustCompile(`\{([a-z_.]+)\}`)

// restRequest fills the path from the request's fields; the rest goes into the
// body, or, where the rule has none, into the query.
func restRequest(ctx context.Context, base string, rule *annotations.HttpRule, req proto.Message) (*http.Request, error) {
	rest := proto.Clone(req).ProtoReflect()
	method, template := verb(rule)
	path := placeholder.ReplaceAllStringFunc(template, func(name string) string {
		return url.PathEscape(take(rest, strings.Split(strings.Trim(name, "{}"), ".")))
	})
	var body io.Reader
	query := url.Values{}
	switch rule.GetBody() {
	case "":
		flatten(query, "", rest)
	default:
		part := rest.Interface()
		if rule.GetBody() != "*" {
			f := rest.Descriptor().Fields().ByName(protoreflect.Name(rule.GetBody()))
			part = rest.Get(f).Message().Interface()
			rest.Clear(f)
			flatten(query, "", rest)
		}
		text, err := protojson.Marshal(part)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(text)
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	hr, err := http.NewRequestWithContext(ctx, method, base+path, body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		hr.Header.Set("Content-Type", "application/json")
	}
	return hr, nil
}

func verb(rule *annotations.HttpRule) (method, path string) {
	switch p := rule.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		return http.MethodGet, p.Get
	case *annotations.HttpRule_Post:
		return http.MethodPost, p.Post
	case *annotations.HttpRule_Put:
		return http.MethodPut, p.Put
	case *annotations.HttpRule_Patch:
		return http.MethodPatch, p.Patch
	case *annotations.HttpRule_Delete:
		return http.MethodDelete, p.Delete
	}
	return "", ""
}

// take removes a field and returns its value as text.
func take(m protoreflect.Message, path []string) string {
	f := m.Descriptor().Fields().ByName(protoreflect.Name(path[0]))
	if len(path) > 1 {
		if !m.Has(f) {
			return ""
		}
		return take(m.Mutable(f).Message(), path[1:])
	}
	value := m.Get(f).String()
	m.Clear(f)
	return value
}

// flatten writes the populated fields as query parameters.
func flatten(query url.Values, prefix string, m protoreflect.Message) {
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m.Interface())
	if err != nil {
		return
	}
	var fields map[string]any
	in := json.NewDecoder(bytes.NewReader(text))
	in.UseNumber()
	if in.Decode(&fields) == nil {
		flattenValue(query, prefix, fields)
	}
}

func flattenValue(query url.Values, name string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for key, inner := range v {
			path := key
			if name != "" {
				path = name + "." + key
			}
			flattenValue(query, path, inner)
		}
	case []any:
		for _, inner := range v {
			flattenValue(query, name, inner)
		}
	default:
		query.Add(name, fmt.Sprint(v))
	}
}

// Problem reads the body of a failed REST answer.
func Problem(httpStatus int, h http.Header, text []byte) (Answer, error) {
	if got := h.Get("Content-Type"); !strings.HasPrefix(got, "application/problem+json") {
		return Answer{}, fmt.Errorf("HTTP %d with content type %q: %.300q", httpStatus, got, text)
	}
	var p struct {
		Detail, Code, Reason string
		Violations           []struct{ Field string }
	}
	if err := json.Unmarshal(text, &p); err != nil {
		return Answer{}, fmt.Errorf("HTTP %d with %.200q: %w", httpStatus, text, err)
	}
	code, ok := codeNamed(p.Code)
	if !ok {
		return Answer{}, fmt.Errorf("HTTP %d with code %q", httpStatus, p.Code)
	}
	a := Answer{Code: code, Reason: p.Reason, Message: p.Detail, Status: httpStatus}
	for _, v := range p.Violations {
		a.Fields = append(a.Fields, v.Field)
	}
	return a, nil
}
