// Package door calls one method of the published contract through each of the
// gateway's public doors, byte by byte as a client of that kind would, and says
// in the same words what came back.
package door

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// Answer is what came back. Reason and Fields are empty where the door said
// nothing of the kind.
type Answer struct {
	Code    codes.Code
	Reason  string // ErrorInfo.reason
	Message string
	Fields  []string      // that were found wrong
	Status  int           // of HTTP; 0 for native gRPC
	Body    proto.Message // when Code is OK
}

func (a Answer) String() string {
	if a.Code == codes.OK {
		return "OK"
	}
	return fmt.Sprintf("%s %s %v %q", a.Code, a.Reason, a.Fields, a.Message)
}

// Door is one way in.
type Door struct {
	Name string
	// Serves reports whether a method can be called through the door at all.
	Serves func(protoreflect.MethodDescriptor) bool
	call   func(ctx context.Context, key string, m protoreflect.MethodDescriptor, req proto.Message) (Answer, error)
}

// Call calls a method, named "/package.Service/Method", with a credential; ""
// shows none. An error means that no answer came that the door's protocol
// allows.
func (d Door) Call(ctx context.Context, key, method string, req proto.Message) (Answer, error) {
	m, err := Method(method)
	if err != nil {
		return Answer{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	a, err := d.call(ctx, key, m, req)
	if err != nil {
		return a, fmt.Errorf("%s over %s: %w", method, d.Name, err)
	}
	return a, nil
}

// All are the doors of the gateway at a native gRPC address and an HTTP URL.
func All(grpcAddr, httpURL string) []Door {
	every := func(protoreflect.MethodDescriptor) bool { return true }
	return []Door{
		{Name: "gRPC", Serves: every, call: nativeAt(grpcAddr)},
		{Name: "Connect JSON", Serves: every, call: connectAt(httpURL, jsonCodec{})},
		{Name: "Connect proto", Serves: every, call: connectAt(httpURL, protoCodec{})},
		{Name: "gRPC-Web", Serves: every, call: webAt(httpURL)},
		{Name: "REST /v1", Serves: hasREST, call: restAt(httpURL, "")},
		{Name: "REST /api/v1", Serves: hasREST, call: restAt(httpURL, "/api")},
	}
}

// Method finds a method's descriptor among the protos that the program imports.
func Method(full string) (protoreflect.MethodDescriptor, error) {
	name := protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(full, "/"), "/", "."))
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	if err != nil {
		return nil, fmt.Errorf("method %s: %w", full, err)
	}
	m, ok := d.(protoreflect.MethodDescriptor)
	if !ok {
		return nil, fmt.Errorf("%s is no method", full)
	}
	return m, nil
}

// Path is a method's path in every protocol of the gRPC family.
func Path(m protoreflect.MethodDescriptor) string {
	return fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name())
}

// New makes an empty message of a type that the program imports.
func New(d protoreflect.MessageDescriptor) (proto.Message, error) {
	t, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	if err != nil {
		return nil, err
	}
	return t.New().Interface(), nil
}

// failed is the answer that a google.rpc.Status stands for.
func failed(s *spb.Status) Answer {
	a := Answer{Code: codes.Code(s.GetCode()), Message: s.GetMessage()}
	for _, packed := range s.GetDetails() {
		detail, err := packed.UnmarshalNew()
		if err != nil {
			continue // another's
		}
		switch d := detail.(type) {
		case *errdetails.ErrorInfo:
			a.Reason = d.GetReason()
		case *errdetails.BadRequest:
			for _, v := range d.GetFieldViolations() {
				a.Fields = append(a.Fields, v.GetField())
			}
		}
	}
	return a
}

// codeNamed reads a code's name, in either case.
func codeNamed(name string) (codes.Code, bool) {
	name = strings.ToUpper(name)
	if name == "CANCELED" {
		name = "CANCELLED"
	}
	n, ok := code.Code_value[name]
	return codes.Code(n), ok
}

func authorize(req *http.Request, key string) {
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
}

// client does not follow redirects: no door sends any.
var client = &http.Client{
	Transport:     &http.Transport{MaxIdleConnsPerHost: 1024},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}
