package e2e

import (
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/agent/v1"
	auditv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/audit/v1"
	brainv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/brain/v1"
	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	controlplanev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	envelopev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/envelope/v1"
	eventstorev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/eventstore/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	ledgerv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/ledger/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	lifecyclev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policylifecycle/v1"
	pricingv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/pricing/v1"
	tenantv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/tenant/v1"
	walletv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/wallet/v1"

	"github.com/fulcrum-io/fulcrum/test/internal/running"
)

// A period in which everything of a test happens.
var (
	longAgo = timestamppb.New(time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC))
	soon    = timestamppb.New(time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC))
)

// row is how one method is asked for somebody's belongings: by requests that
// are valid in every other respect.
type row struct {
	requests []func(*belongings) proto.Message
	want     []codes.Code
	check    func(proto.Message) error // of an answer; may be nil
}

// hidden: there is no such thing.
func hidden(requests ...func(*belongings) proto.Message) row {
	return row{requests: requests, want: []codes.Code{codes.NotFound}}
}

// empty: nothing is found, in one way or the other.
func empty(requests ...func(*belongings) proto.Message) row {
	return row{requests: requests, want: []codes.Code{codes.NotFound, codes.OK}}
}

// own: the caller sees or makes what is its own.
func own(requests ...func(*belongings) proto.Message) row {
	return row{requests: requests, want: []codes.Code{codes.OK}}
}

// silent: a stream that has nothing to send.
func silent(requests ...func(*belongings) proto.Message) row {
	return row{requests: requests, want: []codes.Code{codes.DeadlineExceeded}}
}

// ended: a stream that ends without having sent anything.
func ended(requests ...func(*belongings) proto.Message) row {
	return row{requests: requests, want: []codes.Code{codes.Unknown}} // io.EOF
}

// unserved: nobody can do that yet.
func unserved(requests ...func(*belongings) proto.Message) row {
	return row{requests: requests, want: []codes.Code{codes.Unimplemented}}
}

// closed: not for tenants.
func closed(requests ...func(*belongings) proto.Message) row {
	return row{requests: requests, want: []codes.Code{codes.PermissionDenied}}
}

func always(m proto.Message) func(*belongings) proto.Message {
	return func(*belongings) proto.Message { return m }
}

func (r row) checked(check func(proto.Message) error) row {
	r.check = check
	return r
}

// walk says for every method how to ask.
func walk() map[string]row {
	rows := map[string]row{}
	for _, part := range []map[string]row{governanceWalk(), envelopeWalk(), policyWalk(), lifecycleWalk(), costWalk(), eventWalk(), tenantWalk(), agentWalk(), auditWalk(), adminWalk(), walletWalk(), booksWalk(), toolWalk(), immuneWalk(), webhookWalk(), judgeWalk()} {
		for method, r := range part {
			rows[method] = r
		}
	}
	return rows
}

func governanceWalk() map[string]row {
	search := running.Tool("search")
	return map[string]row{
		governancev1.GovernanceService_Authorize_FullMethodName: hidden(
			func(b *belongings) proto.Message { return running.In(b.envelope, search) },
			func(b *belongings) proto.Message {
				req := running.Inline("walk", search)
				req.GetInline().ParentEnvelopeId = b.envelope
				return req
			},
			func(b *belongings) proto.Message {
				req := running.Inline("walk", search)
				req.ApprovalId = b.approval
				return req
			}),
		governancev1.GovernanceService_AuthorizeBatch_FullMethodName: own(func(b *belongings) proto.Message {
			return &governancev1.AuthorizeBatchRequest{Requests: []*governancev1.AuthorizeRequest{running.In(b.envelope, search)}}
		}).checked(func(m proto.Message) error {
			if got := m.(*governancev1.AuthorizeBatchResponse).GetResults()[0].GetCode(); codes.Code(got) != codes.NotFound {
				return fmt.Errorf("the batch's only answer is %s", codes.Code(got))
			}
			return nil
		}),
		governancev1.GovernanceService_Settle_FullMethodName: hidden(func(b *belongings) proto.Message {
			return &governancev1.SettleRequest{DecisionId: b.decision, Outcome: governancev1.Outcome_OUTCOME_SUCCESS,
				Usage: &governancev1.Usage{CostUsd: proto.Float64(50)}, IdempotencyKey: newKey()}
		}),
		governancev1.GovernanceService_Release_FullMethodName: hidden(func(b *belongings) proto.Message {
			return &governancev1.ReleaseRequest{DecisionId: b.decision, IdempotencyKey: newKey()}
		}),
		governancev1.GovernanceService_Renew_FullMethodName: hidden(func(b *belongings) proto.Message {
			return &governancev1.RenewRequest{DecisionId: b.decision, HoldTtl: durationpb.New(time.Hour), IdempotencyKey: newKey()}
		}),
		governancev1.GovernanceService_WaitForApproval_FullMethodName: hidden(func(b *belongings) proto.Message {
			return &governancev1.WaitForApprovalRequest{ApprovalId: b.approval}
		}),
		governancev1.GovernanceService_GetDecision_FullMethodName: hidden(func(b *belongings) proto.Message {
			return &governancev1.GetDecisionRequest{DecisionId: b.decision}
		}),
		governancev1.GovernanceService_ListDecisions_FullMethodName: own(
			func(b *belongings) proto.Message { return &governancev1.ListDecisionsRequest{EnvelopeId: b.envelope} },
			func(b *belongings) proto.Message { return &governancev1.ListDecisionsRequest{AgentId: marker} },
			always(&governancev1.ListDecisionsRequest{})),
		governancev1.GovernanceService_FilterTools_FullMethodName: hidden(func(b *belongings) proto.Message {
			return &governancev1.FilterToolsRequest{EnvelopeId: b.envelope, Tools: []*governancev1.Tool{{Name: "search"}}}
		}),
	}
}

func envelopeWalk() map[string]row {
	return map[string]row{
		envelopev1.EnvelopeService_CreateEnvelope_FullMethodName: hidden(
			func(b *belongings) proto.Message {
				return &envelopev1.CreateEnvelopeRequest{ParentEnvelopeId: b.envelope}
			}),
		envelopev1.EnvelopeService_GetEnvelope_FullMethodName: hidden(
			func(b *belongings) proto.Message { return &envelopev1.GetEnvelopeRequest{EnvelopeId: b.envelope} }),
		envelopev1.EnvelopeService_UpdateEnvelopeStatus_FullMethodName: hidden(func(b *belongings) proto.Message {
			return &envelopev1.UpdateEnvelopeStatusRequest{EnvelopeId: b.envelope, Status: envelopev1.EnvelopeStatus_ENVELOPE_STATUS_COMPLETED}
		}),
		envelopev1.EnvelopeService_ListEnvelopes_FullMethodName: own(
			always(&envelopev1.ListEnvelopesRequest{}), always(&envelopev1.ListEnvelopesRequest{WorkflowId: marker})),
		envelopev1.EnvelopeService_TerminateEnvelope_FullMethodName: hidden(func(b *belongings) proto.Message {
			return &envelopev1.TerminateEnvelopeRequest{EnvelopeId: b.envelope, Reason: "walk"}
		}),
		envelopev1.EnvelopeService_WatchEnvelope_FullMethodName: hidden(
			func(b *belongings) proto.Message { return &envelopev1.WatchEnvelopeRequest{EnvelopeId: b.envelope} }),
	}
}

func policyWalk() map[string]row {
	rules := []*policyv1.PolicyRule{{RuleId: "r", Name: "walk", Enabled: true, Actions: []*policyv1.PolicyAction{{ActionType: policyv1.ActionType_ACTION_TYPE_ALLOW}}}}
	search := &policyv1.EvaluationContext{ToolNames: []string{"search"}}
	return map[string]row{
		policyv1.PolicyService_CreatePolicy_FullMethodName: own(func(b *belongings) proto.Message {
			return &policyv1.CreatePolicyRequest{Policy: &policyv1.Policy{PolicyId: b.policy, Name: "walk " + newKey(), Rules: rules,
				Status: policyv1.PolicyStatus_POLICY_STATUS_DRAFT}}
		}),
		policyv1.PolicyService_GetPolicy_FullMethodName: hidden(
			func(b *belongings) proto.Message { return &policyv1.GetPolicyRequest{PolicyId: b.policy} }),
		policyv1.PolicyService_UpdatePolicy_FullMethodName: hidden(func(b *belongings) proto.Message {
			return &policyv1.UpdatePolicyRequest{Policy: &policyv1.Policy{PolicyId: b.policy, Name: "taken over", Rules: rules}}
		}),
		policyv1.PolicyService_DeletePolicy_FullMethodName: hidden(
			func(b *belongings) proto.Message { return &policyv1.DeletePolicyRequest{PolicyId: b.policy} }),
		policyv1.PolicyService_ListPolicies_FullMethodName: own(always(&policyv1.ListPoliciesRequest{})),
		policyv1.PolicyService_EvaluatePolicy_FullMethodName: hidden(
			func(b *belongings) proto.Message {
				return &policyv1.EvaluatePolicyRequest{PolicyId: b.policy, Context: search}
			}),
		policyv1.PolicyService_EvaluatePolicies_FullMethodName: hidden(
			func(b *belongings) proto.Message {
				return &policyv1.EvaluatePoliciesRequest{PolicyIds: []string{b.policy}, Context: search}
			}),
		policyv1.PolicyService_GetEvaluationHistory_FullMethodName: empty(
			func(b *belongings) proto.Message { return &policyv1.GetEvaluationHistoryRequest{PolicyId: b.policy} }),
		policyv1.PolicyService_ListApprovals_FullMethodName: own(always(&policyv1.ListApprovalsRequest{})),
		policyv1.PolicyService_UpdateApproval_FullMethodName: hidden(
			func(b *belongings) proto.Message {
				return &policyv1.UpdateApprovalRequest{ApprovalId: b.approval, Status: "APPROVED"}
			}),
	}
}

func lifecycleWalk() map[string]row {
	return map[string]row{
		lifecyclev1.PolicyLifecycleService_LintPolicy_FullMethodName: hidden(
			func(b *belongings) proto.Message { return &lifecyclev1.LintPolicyRequest{PolicyId: b.policy} },
			func(b *belongings) proto.Message {
				return &lifecyclev1.LintPolicyRequest{PolicyId: b.policy, Version: 1}
			}),
		lifecyclev1.PolicyLifecycleService_TestPolicy_FullMethodName: hidden(
			func(b *belongings) proto.Message { return &lifecyclev1.TestPolicyRequest{PolicyId: b.policy} },
			func(b *belongings) proto.Message {
				return &lifecyclev1.TestPolicyRequest{PolicyId: b.policy, Version: 1}
			}),
		lifecyclev1.PolicyLifecycleService_CreatePolicyVersion_FullMethodName: hidden(func(b *belongings) proto.Message {
			return &lifecyclev1.CreatePolicyVersionRequest{Policy: &policyv1.Policy{PolicyId: b.policy, Description: "taken over"}}
		}),
		lifecyclev1.PolicyLifecycleService_ListPolicyVersions_FullMethodName: hidden(
			func(b *belongings) proto.Message { return &lifecyclev1.ListPolicyVersionsRequest{PolicyId: b.policy} }),
		lifecyclev1.PolicyLifecycleService_GetPolicyVersion_FullMethodName: hidden(
			func(b *belongings) proto.Message {
				return &lifecyclev1.GetPolicyVersionRequest{PolicyId: b.policy, Version: 1}
			}),
		lifecyclev1.PolicyLifecycleService_ActivatePolicy_FullMethodName: hidden(
			func(b *belongings) proto.Message {
				return &lifecyclev1.ActivatePolicyRequest{PolicyId: b.policy, Version: 1}
			}),
		lifecyclev1.PolicyLifecycleService_RollBackPolicy_FullMethodName: hidden(
			func(b *belongings) proto.Message {
				return &lifecyclev1.RollBackPolicyRequest{PolicyId: b.policy, Version: 1}
			}),
		lifecyclev1.PolicyLifecycleService_ListPolicyActivations_FullMethodName: hidden(
			func(b *belongings) proto.Message {
				return &lifecyclev1.ListPolicyActivationsRequest{PolicyId: b.policy}
			}),
		lifecyclev1.PolicyLifecycleService_SimulatePolicies_FullMethodName: hidden(func(b *belongings) proto.Message {
			return &lifecyclev1.SimulatePoliciesRequest{Versions: []*lifecyclev1.PolicyVersionRef{{PolicyId: b.policy, Version: 1}}}
		}),
		lifecyclev1.PolicyLifecycleService_StartPolicyShadow_FullMethodName: hidden(
			func(b *belongings) proto.Message {
				return &lifecyclev1.StartPolicyShadowRequest{PolicyId: b.policy, Percent: 100}
			}),
		lifecyclev1.PolicyLifecycleService_StopPolicyShadow_FullMethodName: hidden(
			func(b *belongings) proto.Message { return &lifecyclev1.StopPolicyShadowRequest{PolicyId: b.policy} }),
		lifecyclev1.PolicyLifecycleService_ListPolicyShadows_FullMethodName: own(always(&lifecyclev1.ListPolicyShadowsRequest{})),
		lifecyclev1.PolicyLifecycleService_GetPolicyShadowReport_FullMethodName: empty(
			func(b *belongings) proto.Message {
				return &lifecyclev1.GetPolicyShadowReportRequest{PolicyId: b.policy}
			}),
		lifecyclev1.PolicyLifecycleService_ExportPolicies_FullMethodName: {
			requests: []func(*belongings) proto.Message{
				func(b *belongings) proto.Message {
					return &lifecyclev1.ExportPoliciesRequest{PolicyIds: []string{b.policy}}
				},
			}, want: []codes.Code{codes.NotFound, codes.FailedPrecondition}, // the latter where nothing is signed
		},
		lifecyclev1.PolicyLifecycleService_ImportPolicies_FullMethodName: {
			requests: []func(*belongings) proto.Message{always(&lifecyclev1.ImportPoliciesRequest{Bundle: []byte("{}")})},
			want:     []codes.Code{codes.InvalidArgument, codes.FailedPrecondition},
		},
	}
}

func costWalk() map[string]row {
	return map[string]row{
		costv1.CostService_CreateBudget_FullMethodName: own(func(b *belongings) proto.Message {
			return &costv1.CreateBudgetRequest{Budget: &costv1.Budget{BudgetId: b.budget, Name: "walk " + newKey(), Limits: &costv1.BudgetLimits{MaxToolCalls: 1 << 20},
				Period: &costv1.BudgetPeriod{PeriodType: costv1.BudgetPeriodType_BUDGET_PERIOD_TYPE_DAILY}}}
		}),
		costv1.CostService_GetBudget_FullMethodName: hidden(
			func(b *belongings) proto.Message { return &costv1.GetBudgetRequest{BudgetId: b.budget} }),
		costv1.CostService_UpdateBudget_FullMethodName: hidden(func(b *belongings) proto.Message {
			return &costv1.UpdateBudgetRequest{Budget: &costv1.Budget{BudgetId: b.budget, Limits: &costv1.BudgetLimits{MaxToolCalls: 1}}, UpdateMask: []string{"limits"}}
		}),
		costv1.CostService_DeleteBudget_FullMethodName: hidden(
			func(b *belongings) proto.Message { return &costv1.DeleteBudgetRequest{BudgetId: b.budget} }),
		costv1.CostService_ListBudgets_FullMethodName: own(always(&costv1.ListBudgetsRequest{})),
		costv1.CostService_GetCostSummary_FullMethodName: empty(
			func(b *belongings) proto.Message { return &costv1.GetCostSummaryRequest{EnvelopeId: b.envelope} }),
		costv1.CostService_GetSpendSummary_FullMethodName: own(
			always(&costv1.GetSpendSummaryRequest{WorkflowId: marker}), always(&costv1.GetSpendSummaryRequest{GroupBy: costv1.SpendGroupBy_SPEND_GROUP_BY_AGENT})),
		costv1.CostService_GetBudgetStatus_FullMethodName: hidden(
			func(b *belongings) proto.Message { return &costv1.GetBudgetStatusRequest{BudgetId: b.budget} }),
		pricingv1.PriceService_ImportPrices_FullMethodName: own(func(*belongings) proto.Message {
			return &pricingv1.ImportPricesRequest{Prices: []*pricingv1.Price{{Model: "walk-" + newKey(), Rates: &pricingv1.Rates{InputNano: 1}}}}
		}),
		pricingv1.PriceService_EndPrice_FullMethodName:          hidden(always(&pricingv1.EndPriceRequest{Model: marker})),
		pricingv1.PriceService_ListPriceVersions_FullMethodName: own(always(&pricingv1.ListPriceVersionsRequest{})),
		pricingv1.PriceService_GetPriceVersion_FullMethodName:   empty(always(&pricingv1.GetPriceVersionRequest{VersionId: "tenant-1"})),
		pricingv1.PriceService_ListPrices_FullMethodName:        own(always(&pricingv1.ListPricesRequest{OwnOnly: true})),
		pricingv1.PriceService_GetPrice_FullMethodName:          hidden(always(&pricingv1.GetPriceRequest{Model: marker})),
		pricingv1.PriceService_Rerate_FullMethodName: own(
			always(&pricingv1.RerateRequest{From: longAgo, Until: soon, Model: marker}),
			func(*belongings) proto.Message {
				return &pricingv1.RerateRequest{From: longAgo, Until: soon, Model: "walk", Apply: true, IdempotencyKey: newKey()}
			}),
		pricingv1.PriceService_GetRerate_FullMethodName: hidden(
			func(b *belongings) proto.Message { return &pricingv1.GetRerateRequest{RerateId: b.rerate} }),
		pricingv1.PriceService_ListRerates_FullMethodName: own(always(&pricingv1.ListReratesRequest{})),
		costv1.CostService_CreateBudgetOverride_FullMethodName: hidden(func(b *belongings) proto.Message {
			return &costv1.CreateBudgetOverrideRequest{BudgetId: b.budget, Limits: &costv1.BudgetLimits{MaxToolCalls: 1},
				Duration: durationpb.New(time.Hour), Reason: "walk"}
		}),
		costv1.CostService_ListBudgetOverrides_FullMethodName: hidden(
			func(b *belongings) proto.Message { return &costv1.ListBudgetOverridesRequest{BudgetId: b.budget} }),
		costv1.CostService_RevokeBudgetOverride_FullMethodName: hidden(func(b *belongings) proto.Message {
			return &costv1.RevokeBudgetOverrideRequest{BudgetId: b.budget, OverrideId: b.budget}
		}),
		brainv1.OracleService_PredictBudgetOverrun_FullMethodName: hidden(
			func(b *belongings) proto.Message { return &brainv1.PredictBudgetOverrunRequest{BudgetId: b.budget} }),
		brainv1.OracleService_GetPredictionModel_FullMethodName: closed(func(b *belongings) proto.Message {
			return &brainv1.GetPredictionModelRequest{TenantId: b.tenant, WorkflowId: marker}
		}),
		brainv1.OracleService_ListPredictionModels_FullMethodName: closed(
			func(b *belongings) proto.Message { return &brainv1.ListPredictionModelsRequest{TenantId: b.tenant} }),
		costv1.CostService_PredictCost_FullMethodName: own(
			always(&costv1.PredictCostRequest{WorkflowId: marker, EstimatedInputTokens: 100, ModelIds: []string{"gpt-4o"}, UseHistoricalData: true})),
	}
}

func walletWalk() map[string]row {
	return map[string]row{
		// Asked by one door after the other, the name is taken the second time: by
		// the caller's own.
		walletv1.WalletService_CreateWallet_FullMethodName: {
			requests: []func(*belongings) proto.Message{always(&walletv1.CreateWalletRequest{Name: "walk " + newKey()})},
			want:     []codes.Code{codes.OK, codes.Aborted},
		},
		walletv1.WalletService_UpdateWallet_FullMethodName: hidden(func(b *belongings) proto.Message {
			return &walletv1.UpdateWalletRequest{WalletId: b.wallet, Frozen: proto.Bool(true), Reason: "taken over"}
		}),
		walletv1.WalletService_GetWallet_FullMethodName: hidden(
			func(b *belongings) proto.Message { return &walletv1.GetWalletRequest{WalletId: b.wallet} }),
		walletv1.WalletService_ListWallets_FullMethodName: own(always(&walletv1.ListWalletsRequest{Name: marker})),
		walletv1.WalletService_TopUpWallet_FullMethodName: hidden(func(b *belongings) proto.Message {
			return &walletv1.TopUpWalletRequest{WalletId: b.wallet, AmountNano: 1, IdempotencyKey: newKey()}
		}),
		walletv1.WalletService_AdjustWallet_FullMethodName: hidden(func(b *belongings) proto.Message {
			return &walletv1.AdjustWalletRequest{WalletId: b.wallet, Kind: walletv1.MovementKind_MOVEMENT_KIND_REFUND, AmountNano: -1, Reason: "walk", IdempotencyKey: newKey()}
		}),
		walletv1.WalletService_GetStatement_FullMethodName: hidden(
			func(b *belongings) proto.Message { return &walletv1.GetStatementRequest{WalletId: b.wallet} }),
		walletv1.WalletService_CreateSigningKey_FullMethodName: hidden(
			func(b *belongings) proto.Message { return &walletv1.CreateSigningKeyRequest{WalletId: b.wallet} }),
		walletv1.WalletService_ListSigningKeys_FullMethodName: hidden(
			func(b *belongings) proto.Message { return &walletv1.ListSigningKeysRequest{WalletId: b.wallet} }),
	}
}

func booksWalk() map[string]row {
	return map[string]row{
		ledgerv1.BookkeepingService_ExportEntries_FullMethodName: ended(func(b *belongings) proto.Message {
			return &ledgerv1.ExportEntriesRequest{From: timestamppb.New(time.Now().Add(-time.Hour)), Account: b.budget}
		}),
		ledgerv1.BookkeepingService_CheckLedger_FullMethodName: own(
			func(b *belongings) proto.Message { return &ledgerv1.CheckLedgerRequest{Account: b.budget} }),
		ledgerv1.BookkeepingService_CorrectCharge_FullMethodName: hidden(
			func(b *belongings) proto.Message {
				return &ledgerv1.CorrectChargeRequest{ReservationId: b.reservation, AmountNano: 1, Reason: "walk", IdempotencyKey: newKey()}
			},
			func(b *belongings) proto.Message {
				return &ledgerv1.CorrectChargeRequest{WalletId: b.wallet, AmountNano: 1, Reason: "walk", IdempotencyKey: newKey()}
			},
			func(b *belongings) proto.Message {
				return &ledgerv1.CorrectChargeRequest{BudgetId: b.budget, AmountNano: 1, Reason: "walk", IdempotencyKey: newKey()}
			}),
		ledgerv1.BookkeepingService_ListHolds_FullMethodName: own(
			func(b *belongings) proto.Message { return &ledgerv1.ListHoldsRequest{BudgetId: b.budget} }, always(&ledgerv1.ListHoldsRequest{})),
		ledgerv1.BookkeepingService_ReleaseHold_FullMethodName: hidden(
			func(b *belongings) proto.Message {
				return &ledgerv1.ReleaseHoldRequest{ReservationId: b.reservation, Reason: "walk"}
			}),
	}
}

func eventWalk() map[string]row {
	// To end somebody else's execution would be an attack; to report such an
	// event is a caller's right, and stays with him.
	end := func(b *belongings) *eventstorev1.EventPayload {
		return &eventstorev1.EventPayload{EventType: "execution_completed", EnvelopeId: b.envelope, ExecutionId: b.execution}
	}
	return map[string]row{
		eventstorev1.EventStoreService_PublishEvent_FullMethodName: empty(
			func(b *belongings) proto.Message { return &eventstorev1.PublishEventRequest{Event: end(b)} }),
		eventstorev1.EventStoreService_PublishEventBatch_FullMethodName: empty(func(b *belongings) proto.Message {
			return &eventstorev1.PublishEventBatchRequest{Events: []*eventstorev1.EventPayload{end(b)}}
		}),
		eventstorev1.EventStoreService_QueryEvents_FullMethodName: own(
			func(b *belongings) proto.Message { return &eventstorev1.QueryEventsRequest{WorkflowId: marker} },
			always(&eventstorev1.QueryEventsRequest{Labels: map[string]string{"label": marker}})),
		eventstorev1.EventStoreService_GetExecutionEvents_FullMethodName: empty(func(b *belongings) proto.Message {
			return &eventstorev1.GetExecutionEventsRequest{ExecutionId: b.execution, EventType: "llm_call"}
		}),
		eventstorev1.EventStoreService_StreamEvents_FullMethodName: silent(func(b *belongings) proto.Message {
			return &eventstorev1.StreamEventsRequest{WorkflowId: marker, StartPosition: &eventstorev1.StreamEventsRequest_StartSequence{StartSequence: 1}}
		}),
		eventstorev1.EventStoreService_GetEventStoreStats_FullMethodName: own(always(&eventstorev1.GetEventStoreStatsRequest{})),
	}
}

func immuneWalk() map[string]row {
	return map[string]row{
		brainv1.ImmuneSystemService_ReportIncident_FullMethodName: own(always(&brainv1.ReportIncidentRequest{
			Incident: &brainv1.Incident{Description: "walk"}})),
		brainv1.ImmuneSystemService_ListIncidents_FullMethodName:      own(always(&brainv1.ListIncidentsRequest{})),
		brainv1.ImmuneSystemService_GetAttackPatterns_FullMethodName:  own(always(&brainv1.GetAttackPatternsRequest{})),
		brainv1.ImmuneSystemService_GetPendingPolicies_FullMethodName: own(always(&brainv1.GetPendingPoliciesRequest{})),
		brainv1.ImmuneSystemService_ReviewGeneratedPolicy_FullMethodName: hidden(func(b *belongings) proto.Message {
			return &brainv1.ReviewGeneratedPolicyRequest{PolicyId: b.policy, Decision: brainv1.ReviewDecision_REVIEW_DECISION_REJECT}
		}),
		brainv1.ImmuneSystemService_ListDetectors_FullMethodName:  own(always(&brainv1.ListDetectorsRequest{})),
		brainv1.ImmuneSystemService_UpdateDetector_FullMethodName: own(always(&brainv1.UpdateDetectorRequest{Name: "loop"})),
	}
}

// Nobody can ask a model here: none is configured. What somebody else's thing is
// called is a text like any other.
func judgeWalk() map[string]row {
	unasked := row{want: []codes.Code{codes.FailedPrecondition}}
	risk, intent := unasked, unasked
	risk.requests = []func(*belongings) proto.Message{func(b *belongings) proto.Message { return &brainv1.ClassifyRiskRequest{ToolName: b.policy} }}
	intent.requests = []func(*belongings) proto.Message{func(b *belongings) proto.Message { return &brainv1.DeriveIntentRequest{PatternSignature: b.agent} }}
	return map[string]row{
		brainv1.SemanticJudgeService_EvaluateCondition_FullMethodName: own(func(b *belongings) proto.Message {
			return &brainv1.EvaluateConditionRequest{
				Condition: &policyv1.PolicyCondition{ConditionType: policyv1.ConditionType_CONDITION_TYPE_SEMANTIC, SemanticIntent: "asks for secrets"},
				Context:   &policyv1.EvaluationContext{EnvelopeId: b.envelope, InputText: "hello"}, FallbackEnabled: true}
		}),
		brainv1.SemanticJudgeService_ClassifyRisk_FullMethodName: risk,
		brainv1.SemanticJudgeService_DeriveIntent_FullMethodName: intent,
	}
}

func webhookWalk() map[string]row {
	create := own(func(*belongings) proto.Message {
		return &controlplanev1.CreateWebhookRequest{Url: "https://walk.example/" + newKey()}
	})
	create.want = append(create.want, codes.AlreadyExists) // through the next door
	return map[string]row{
		controlplanev1.WebhookService_CreateWebhook_FullMethodName: create,
		controlplanev1.WebhookService_ListWebhooks_FullMethodName:  own(always(&controlplanev1.ListWebhooksRequest{})),
		controlplanev1.WebhookService_UpdateWebhook_FullMethodName: hidden(func(b *belongings) proto.Message {
			return &controlplanev1.UpdateWebhookRequest{WebhookId: b.webhook, Enabled: proto.Bool(false)}
		}),
		controlplanev1.WebhookService_DeleteWebhook_FullMethodName: hidden(func(b *belongings) proto.Message {
			return &controlplanev1.DeleteWebhookRequest{WebhookId: b.webhook}
		}),
		controlplanev1.WebhookService_TestWebhook_FullMethodName: hidden(func(b *belongings) proto.Message {
			return &controlplanev1.TestWebhookRequest{WebhookId: b.webhook}
		}),
		controlplanev1.WebhookService_RotateWebhookSecret_FullMethodName: hidden(func(b *belongings) proto.Message {
			return &controlplanev1.RotateWebhookSecretRequest{WebhookId: b.webhook}
		}),
		controlplanev1.WebhookService_ListWebhookDeliveries_FullMethodName: hidden(func(b *belongings) proto.Message {
			return &controlplanev1.ListWebhookDeliveriesRequest{WebhookId: b.webhook}
		}),
	}
}

func tenantWalk() map[string]row {
	return map[string]row{
		tenantv1.TenantService_CreateApiKey_FullMethodName: own(always(&tenantv1.CreateApiKeyRequest{Name: "walk", Scopes: []string{"policy:read"}})),
		tenantv1.TenantService_ListApiKeys_FullMethodName:  own(always(&tenantv1.ListApiKeysRequest{})),
		tenantv1.TenantService_RevokeApiKey_FullMethodName: hidden(
			func(b *belongings) proto.Message { return &tenantv1.RevokeApiKeyRequest{KeyId: b.keyID} }),
	}
}

func agentWalk() map[string]row {
	return map[string]row{
		agentv1.AgentService_CreateAgent_FullMethodName: own(
			func(*belongings) proto.Message { return &agentv1.CreateAgentRequest{Name: "walk " + newKey()} }),
		agentv1.AgentService_GetAgent_FullMethodName: hidden(
			func(b *belongings) proto.Message { return &agentv1.GetAgentRequest{Id: b.agent} }),
		agentv1.AgentService_ListAgents_FullMethodName: own(
			always(&agentv1.ListAgentsRequest{}), always(&agentv1.ListAgentsRequest{Team: marker})),
		agentv1.AgentService_UpdateAgent_FullMethodName: hidden(
			func(b *belongings) proto.Message {
				return &agentv1.UpdateAgentRequest{Id: b.agent, Description: "taken over"}
			}),
		agentv1.AgentService_DeleteAgent_FullMethodName: hidden(
			func(b *belongings) proto.Message { return &agentv1.DeleteAgentRequest{Id: b.agent} }),
		agentv1.AgentService_GetAgentMetrics_FullMethodName: empty(
			func(b *belongings) proto.Message { return &agentv1.GetAgentMetricsRequest{AgentId: b.agent} }),
		agentv1.AgentService_RecordAgentMetrics_FullMethodName: unserved(
			func(b *belongings) proto.Message {
				return &agentv1.RecordAgentMetricsRequest{AgentId: b.agent, RequestCount: 1, IsAvailable: true}
			}),
	}
}

func auditWalk() map[string]row {
	return map[string]row{
		auditv1.AuditService_GetLogCheckpoint_FullMethodName: empty(always(&auditv1.GetLogCheckpointRequest{})),
		auditv1.AuditService_GetInclusionProof_FullMethodName: hidden(
			func(b *belongings) proto.Message { return &auditv1.GetInclusionProofRequest{EventId: b.decision} },
			func(b *belongings) proto.Message { return &auditv1.GetInclusionProofRequest{EventId: b.event} }),
		auditv1.AuditService_GetConsistencyProof_FullMethodName: own(always(&auditv1.GetConsistencyProofRequest{OldSize: 1})),
		auditv1.AuditService_ListEntries_FullMethodName:         own(always(&auditv1.ListEntriesRequest{PageSize: 1000})),
		auditv1.AuditService_GetVerificationKey_FullMethodName:  own(always(&auditv1.GetVerificationKeyRequest{})),
	}
}

func adminWalk() map[string]row {
	return map[string]row{
		controlplanev1.AdminService_CreateTenant_FullMethodName: closed(always(&controlplanev1.CreateTenantRequest{Name: "walk"})),
		controlplanev1.AdminService_ListTenants_FullMethodName:  closed(always(&controlplanev1.ListTenantsRequest{})),
		controlplanev1.AdminService_IssueApiKey_FullMethodName: closed(func(b *belongings) proto.Message {
			return &controlplanev1.IssueApiKeyRequest{TenantId: b.tenant, Name: "walk", Scopes: []string{"*"}}
		}),
		controlplanev1.AdminService_UpdateTenantSettings_FullMethodName: closed(func(b *belongings) proto.Message {
			return &controlplanev1.UpdateTenantSettingsRequest{TenantId: b.tenant, Settings: &configv1.TenantSettings{FailOpen: true}}
		}),
	}
}

func toolWalk() map[string]row {
	return map[string]row{
		controlplanev1.ToolService_RegisterTool_FullMethodName: own(always(&controlplanev1.RegisterToolRequest{Tool: &controlplanev1.Tool{Name: "walk", InputSchema: `{"type":"object"}`}})),
		controlplanev1.ToolService_ImportTools_FullMethodName:  own(always(&controlplanev1.ImportToolsRequest{Source: "walk", ToolsList: `{"tools": [{"name": "walked"}]}`})),
		controlplanev1.ToolService_ListTools_FullMethodName:    own(always(&controlplanev1.ListToolsRequest{})),
		controlplanev1.ToolService_DeleteTool_FullMethodName:   hidden(always(&controlplanev1.DeleteToolRequest{Name: "nobody's"})),
	}
}
