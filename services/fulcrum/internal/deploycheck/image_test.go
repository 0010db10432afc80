package deploycheck

import (
	"slices"
	"strings"
	"testing"
)

// A module that the image's dependency layer lacks breaks every build; a
// service that it does not compile breaks one.
func TestTheImageKnowsEveryModule(t *testing.T) {
	t.Parallel()
	recipe := text(t, "deploy/docker/Dockerfile")
	for _, m := range workspace(t) {
		if line := "COPY " + m + "/go.mod " + m + "/go.sum " + m + "/\n"; !strings.Contains(recipe, line) {
			t.Errorf("missing: %s", strings.TrimSpace(line))
		}
	}
	words := strings.Fields(recipe)
	for _, name := range append(serviceModules(t), "fulcrum") {
		if !slices.Contains(words, "./services/"+name) {
			t.Errorf("%s is not compiled", name)
		}
	}
	var compiler string
	for line := range strings.Lines(recipe) {
		if v, ok := strings.CutPrefix(line, "ARG GO_IMAGE=golang:"); ok {
			compiler = strings.TrimSpace(v)
		}
	}
	for line := range strings.Lines(text(t, "go.work")) {
		if want, ok := strings.CutPrefix(strings.TrimSpace(line), "go "); ok && !strings.HasPrefix(compiler, strings.TrimSuffix(want, ".0")+".") {
			t.Errorf("the image compiles with Go %s, go.work says %s", compiler, want)
		}
	}
}

// railway is a Railway file with exactly the fields that Railway knows and we use.
type railway struct {
	Schema string `json:"$schema"`
	Build  struct {
		Builder        string   `json:"builder"`
		DockerfilePath string   `json:"dockerfilePath"`
		WatchPatterns  []string `json:"watchPatterns"`
	} `json:"build"`
	Deploy struct {
		StartCommand            string `json:"startCommand"`
		HealthcheckPath         string `json:"healthcheckPath"`
		HealthcheckTimeout      int    `json:"healthcheckTimeout"`
		RestartPolicyType       string `json:"restartPolicyType"`
		RestartPolicyMaxRetries int    `json:"restartPolicyMaxRetries"`
		OverlapSeconds          int    `json:"overlapSeconds"`
		DrainingSeconds         int    `json:"drainingSeconds"`
	} `json:"deploy"`
}

func TestEveryServiceRunsOnRailway(t *testing.T) {
	t.Parallel()
	for _, name := range serviceModules(t) {
		path := "deploy/railway/" + name + ".json"
		var file railway
		decode(t, path, &file)
		for _, want := range []string{"services/" + name + "/**", "pkg/**", "proto/**", "db/**", "go.work", "go.work.sum", "deploy/docker/**", path} {
			if !slices.Contains(file.Build.WatchPatterns, want) {
				t.Errorf("%s does not watch %s", path, want)
			}
		}
		if file.Build.Builder != "DOCKERFILE" || file.Build.DockerfilePath != "deploy/docker/Dockerfile" || file.Schema != "https://railway.com/railway.schema.json" {
			t.Errorf("%s: %+v", path, file.Build)
		}
		if d := file.Deploy; d.HealthcheckPath == "" || d.StartCommand != "" || d.DrainingSeconds < 30 {
			t.Errorf("%s: %+v; draining must outlast FULCRUM_DRAIN and the workers after it", path, d)
		}
	}
}

// The two that run once start the fulcrum command, in exec form: no shell, no
// variables.
func TestOneShotsOnRailwayStartCommandsThatExist(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"bootstrap", "migrate"} {
		var file railway
		decode(t, "deploy/railway/"+name+".json", &file)
		args := strings.Fields(file.Deploy.StartCommand)
		if len(args) < 2 || args[0] != "/service" || strings.Contains(file.Deploy.StartCommand, "$") {
			t.Fatalf("%s: start command %q", name, file.Deploy.StartCommand)
		}
		if file.Deploy.HealthcheckPath != "" {
			t.Errorf("%s serves nothing, so nothing can ask for its health", name)
		}
		if out, ok := output(t, "fulcrum", append(args[1:], "--help")...); !ok || !strings.Contains(out, "fulcrum "+args[1]) {
			t.Errorf("%s: %v: %s", name, args, out)
		}
	}
}

// deploy/railway/README.md lists the variables of each service.
func TestRailwaysVariablesAreRead(t *testing.T) {
	t.Parallel()
	readme := text(t, "deploy/railway/README.md")
	for _, name := range services() {
		_, section, ok := strings.Cut(readme, "\n### "+name+"\n")
		if !ok {
			t.Errorf("README.md has no section %q", name)
			continue
		}
		section, _, _ = strings.Cut(section, "\n### ")
		_, block, _ := strings.Cut(section, "```\n")
		block, _, _ = strings.Cut(block, "```")
		set := map[string]bool{}
		for line := range strings.Lines(block) {
			key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
			if !ok {
				continue
			}
			set[key] = value != ""
			switch {
			case key == "SERVICE":
				if value != name {
					t.Errorf("%s: SERVICE=%s", name, value)
				}
			case key == "PORT": // what Railway asks for health; only the gateway listens by it
			case !reads(name, key):
				t.Errorf("%s does not read %s", name, key)
			}
		}
		for _, s := range settings()[name] {
			if (s.note == "(required)" || strings.HasPrefix(s.note, "127.0.0.1:") && s.key != "GATEWAY_HTTP_ADDR") && !set[s.key] {
				t.Errorf("%s: %s is missing", name, s.key)
			}
		}
	}
}
