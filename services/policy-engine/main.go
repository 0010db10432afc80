// Command policy-engine judges actions by their tenant's policies.
package main

import (
	"github.com/fulcrum-io/fulcrum/pkg/service"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/app"
)

func main() { service.Main("policy-engine", app.Run) }
