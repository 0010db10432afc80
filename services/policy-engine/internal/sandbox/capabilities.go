package sandbox

import (
	"slices"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
)

// allowed names every built-in a policy may call. What is not here does not
// compile: nothing that reaches the network, the environment, the clock or
// randomness, so that a decision can be replayed from its input alone, and
// nothing whose cost OPA cannot interrupt and a guard cannot bound.
var allowed = strings.Fields(`
	eq equal neq gt gte lt lte assign internal.member_2 internal.member_3
	plus minus mul div rem round ceil floor abs
	bits.and bits.or bits.xor bits.negate bits.rsh
	and or intersection union
	count sum product max min sort
	array.concat array.flatten array.reverse array.slice
	to_number format_int units.parse units.parse_bytes numbers.range numbers.range_step
	concat contains endswith indexof indexof_n lower replace split sprintf startswith
	strings.any_prefix_match strings.any_suffix_match strings.count strings.replace_n
	strings.reverse strings.split_n substring trim trim_left trim_prefix trim_right
	trim_space trim_suffix upper internal.template_string
	regex.find_all_string_submatch_n regex.find_n regex.is_valid regex.match regex.replace
	regex.split glob.match glob.quote_meta
	is_array is_boolean is_null is_number is_object is_set is_string type_name
	json.filter json.is_valid json.marshal json.remove json.unmarshal
	object.filter object.get object.keys object.remove object.subset object.union object.union_n
	base64.decode base64.encode base64.is_valid base64url.decode base64url.encode
	base64url.encode_no_pad hex.decode hex.encode urlquery.decode urlquery.encode
	crypto.md5 crypto.sha1 crypto.sha256
	time.add_date time.clock time.date time.diff time.format time.parse_duration_ns
	time.parse_ns time.parse_rfc3339_ns time.weekday
	net.cidr_contains net.cidr_intersects net.cidr_is_valid
	semver.compare semver.is_valid uri.is_valid uri.parse
	walk
`)

// capabilities is what the compiler grants to a tenant: the allow-list and our
// own built-ins, but for what only generated modules call. AllowNet is empty and
// not nil, because nil means any host.
var capabilities = sync.OnceValue(func() *ast.Capabilities { return granting(func(name string) bool { return name != Rows }) })

// ownCapabilities is what modules that this service generates are granted.
var ownCapabilities = sync.OnceValue(func() *ast.Capabilities { return granting(func(string) bool { return true }) })

func granting(ours func(string) bool) *ast.Capabilities {
	install()
	c := ast.CapabilitiesForThisVersion(ast.CapabilitiesRegoVersion(ast.RegoV2))
	c.Builtins = slices.DeleteFunc(c.Builtins, func(b *ast.Builtin) bool {
		if strings.HasPrefix(b.Name, "fulcrum.") {
			return !ours(b.Name)
		}
		return !slices.Contains(allowed, b.Name)
	})
	c.AllowNet = []string{}
	return c
}
