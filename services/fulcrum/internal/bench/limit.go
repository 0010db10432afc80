package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
)

// Limit gives the tenant of a key a limit that every action counts on and none
// exceeds, and returns when it is in force.
func Limit(ctx context.Context, addr, key string) error {
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key)
	_, err = policyv1.NewPolicyServiceClient(conn).CreatePolicy(ctx, &policyv1.CreatePolicyRequest{Policy: &policyv1.Policy{
		Name: "bench-limit", Status: policyv1.PolicyStatus_POLICY_STATUS_ACTIVE, Enforcement: policyv1.EnforcementLevel_ENFORCEMENT_LEVEL_BLOCK,
		Scope: &policyv1.PolicyScope{ToolNames: []string{benchTool}},
		Rules: []*policyv1.PolicyRule{{RuleId: "tokens", Enabled: true, Actions: []*policyv1.PolicyAction{{
			ActionType: policyv1.ActionType_ACTION_TYPE_THROTTLE,
			Parameters: map[string]string{"max": "1000000000000", "of": "tokens", "per": "minute", "by": "tenant"},
		}}}},
	}})
	if err != nil {
		return fmt.Errorf("create a limit: %w", err)
	}
	for until := time.Now().Add(30 * time.Second); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		resp, err := governancev1.NewGovernanceServiceClient(conn).Authorize(ctx, &governancev1.AuthorizeRequest{
			Action: &governancev1.Action{Kind: governancev1.ActionKind_ACTION_KIND_TOOL_CALL, Name: benchTool}, IdempotencyKey: "in force?", DryRun: true,
		})
		if err != nil {
			return err
		}
		if len(resp.GetObligations()) > 0 {
			return nil
		}
	}
	return errors.New("the limit does not come into force")
}
