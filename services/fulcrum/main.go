// Command fulcrum runs all of Fulcrum in one process, shows it, and administers it.
package main

import "github.com/fulcrum-io/fulcrum/services/fulcrum/internal/cli"

func main() { cli.Main() }
