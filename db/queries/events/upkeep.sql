-- name: EnsurePartitions :exec
select fulcrum.ensure_partitions('fulcrum.events'), fulcrum.ensure_partitions('metrics.agent_hours'),
       metrics.ensure_days('metrics.metrics'), metrics.ensure_days('metrics.cost_events'), metrics.ensure_days('metrics.decision_latency');

-- name: MayForget :one
-- Dropping history is not the app's right; an operator may run this service
-- under a role that has it.
select (has_function_privilege('fulcrum.drop_partitions(regclass, timestamptz)', 'execute')
    and has_function_privilege('metrics.drop_days(regclass, timestamptz)', 'execute'))::boolean as may;

-- name: Forget :one
select (fulcrum.drop_partitions('fulcrum.events', @ended_before) + fulcrum.drop_partitions('metrics.agent_hours', @ended_before)
    + metrics.drop_days('metrics.metrics', @ended_before) + metrics.drop_days('metrics.cost_events', @ended_before)
    + metrics.drop_days('metrics.decision_latency', @ended_before))::integer as dropped;
