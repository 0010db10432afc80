package rpc

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
)

// Domain is the ErrorInfo domain of every fault of ours.
const Domain = "fulcrum"

// hintKey is where the hint travels in ErrorInfo.Metadata.
const hintKey = "hint"

// reasonPeer marks a refusal that is between services: it says nothing about
// the credential of the caller outside.
const reasonPeer = "INTERNAL_TOKEN"

// withDetails writes everything of f but its cause into the status.
func withDetails(s *status.Status, f *fault.Error) *status.Status {
	info := &errdetails.ErrorInfo{Reason: f.Code(), Domain: Domain, Metadata: maps.Clone(f.Meta)}
	if f.Hint != "" {
		if info.Metadata == nil {
			info.Metadata = make(map[string]string, 1)
		}
		info.Metadata[hintKey] = f.Hint
	}
	details := []protoadapt.MessageV1{info}
	if len(f.Violations) > 0 {
		bad := &errdetails.BadRequest{}
		for _, v := range f.Violations {
			bad.FieldViolations = append(bad.FieldViolations,
				&errdetails.BadRequest_FieldViolation{Field: v.Field, Description: v.Description})
		}
		details = append(details, bad)
	}
	if f.RetryAfter > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(f.RetryAfter)})
	}
	if full, err := s.WithDetails(details...); err == nil {
		return full
	}
	return s // a text that is not UTF-8 cannot be sent as a detail; the code still can
}

// FromStatus restores the fault that a peer answered with, so that it can be
// passed on unchanged. A peer that cannot be reached is a fault.Down. What a
// peer did not mean for callers (Internal, Unknown) is a plain error.
// Anything that is no status comes back as it is.
func FromStatus(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := fault.As(err); ok {
		return err
	}
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	info, f := restore(s)
	w, known := ofCode(s.Code())
	switch {
	case s.Code() == codes.OK:
		return nil
	case s.Code() == codes.Canceled:
		return peerError{s, context.Canceled}
	case !known || info.GetReason() == reasonPeer:
		return peerError{s, nil}
	}
	f.Kind = w.kind
	if info != nil {
		f.Msg = s.Message()
		return f
	}
	// Not one of our faults: gRPC's own error, whose text is for operators
	// where it speaks of connections.
	f.Cause = peerError{s, nil}
	switch w.kind {
	case fault.Down:
		f.Msg, f.Reason, f.RetryAfter = "a service that this call needs cannot be reached", "UNREACHABLE", time.Second
	case fault.Deadline:
		f.Msg, f.Cause = "deadline exceeded", peerError{s, context.DeadlineExceeded}
	default:
		f.Msg, f.Cause = s.Message(), nil
	}
	return f
}

// restore reads the details of s; info is nil if the status is not of ours.
func restore(s *status.Status) (info *errdetails.ErrorInfo, f *fault.Error) {
	f = &fault.Error{}
	for _, detail := range s.Details() {
		switch d := detail.(type) {
		case *errdetails.ErrorInfo:
			if d.GetDomain() != Domain {
				continue
			}
			info, f.Reason, f.Meta = d, d.GetReason(), d.GetMetadata()
			f.Hint = f.Meta[hintKey]
			delete(f.Meta, hintKey)
			if len(f.Meta) == 0 {
				f.Meta = nil
			}
		case *errdetails.BadRequest:
			for _, v := range d.GetFieldViolations() {
				f.Violations = append(f.Violations, fault.Violation{Field: v.GetField(), Description: v.GetDescription()})
			}
		case *errdetails.RetryInfo:
			f.RetryAfter = d.GetRetryDelay().AsDuration()
		}
	}
	return info, f
}

// peerError is what a peer answered, for the log. It hides its status, which
// would otherwise be taken for ours.
type peerError struct {
	peer  *status.Status
	cause error
}

func (e peerError) Error() string {
	return fmt.Sprintf("peer answered %s: %s", e.peer.Code(), e.peer.Message())
}

func (e peerError) Unwrap() error { return e.cause }

// PeerCode is the code that a peer answered with, where FromStatus made a
// plain error of it: codes.OK if err holds no such answer.
func PeerCode(err error) codes.Code {
	if e, ok := errors.AsType[peerError](err); ok {
		return e.peer.Code()
	}
	return codes.OK
}
