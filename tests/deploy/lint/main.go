// Command lint reads the files of scripts/deploy with their own tools' code: BuildKit's parser and linter of
// Dockerfiles, Compose's loader, a parser of TOML, and the types of AWS' SDK.
//
//	go run . KIND FILE…
//
// KIND is dockerfile, compose, toml, ecs or rds; of compose files the later ones go over the earlier. A fault
// is a line, and the exit code 1. It is a module of its own, so that what these tools need stays out of the
// project's go.mod.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
	rdstypes "github.com/aws/aws-sdk-go-v2/service/rds/types"
	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "want: lint KIND FILE…")
		os.Exit(2)
	}
	kinds := map[string]func(files []string) ([]string, error){
		"dockerfile": dockerfile, "compose": compose, "toml": tomlFile, "ecs": task, "rds": parameters}
	read, known := kinds[os.Args[1]]
	if !known {
		fmt.Fprintf(os.Stderr, "there is no kind %q\n", os.Args[1])
		os.Exit(2)
	}
	faults, err := read(os.Args[2:])
	if err != nil {
		faults = append(faults, err.Error())
	}
	for _, fault := range faults {
		fmt.Println(fault)
	}
	if len(faults) > 0 {
		os.Exit(1)
	}
}

// dockerfile says what BuildKit's linter warns of, and what keeps the last stage from running as it should.
func dockerfile(files []string) (faults []string, err error) {
	file, err := os.Open(files[0])
	if err != nil {
		return nil, err
	}
	defer file.Close()
	parsed, err := parser.Parse(file)
	if err != nil {
		return nil, err
	}
	for _, warning := range parsed.Warnings {
		faults = append(faults, warning.Short)
	}
	stages, _, err := instructions.Parse(parsed.AST, linter.New(&linter.Config{
		Warn: func(rule, _, _, message string, at []parser.Range) {
			faults = append(faults, fmt.Sprintf("%s: %s", rule, message))
		}}))
	if err != nil {
		return faults, err
	}
	last := stages[len(stages)-1]
	if !strings.Contains(last.BaseName, "distroless/static") || !strings.HasSuffix(last.BaseName, ":nonroot") {
		faults = append(faults, "the last stage is on "+last.BaseName+", want distroless' static, nonroot")
	}
	var user, health, entry bool
	for _, command := range last.Commands {
		switch c := command.(type) {
		case *instructions.UserCommand:
			user = c.User != "root" && c.User != "0"
		case *instructions.HealthCheckCommand:
			health = c.Health != nil && slices.Equal(c.Health.Test, []string{"CMD", "/logline", "health"})
		case *instructions.EntrypointCommand:
			entry = !c.PrependShell
		case *instructions.RunCommand:
			faults = append(faults, "the last stage runs a command: it has no shell")
		}
	}
	if !user || !health || !entry {
		faults = append(faults, fmt.Sprintf(
			"the last stage: user that is not root %v, health check by the binary %v, entry without shell %v",
			user, health, entry))
	}
	return faults, nil
}

// compose loads the files as `docker compose` does, with passwords, and looks at each service of ours.
func compose(files []string) (faults []string, err error) {
	options, err := cli.NewProjectOptions(files, cli.WithName("logline"),
		cli.WithEnv([]string{"POSTGRES_PASSWORD=owner", "LOGLINE_PASSWORD=sidecar", "LOGLINE_NODE=a"}))
	if err != nil {
		return nil, err
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		return nil, err
	}
	for name, service := range project.Services {
		if service.Labels["lint"] == "stub" {
			continue
		}
		if fault := softness(service); fault != "" {
			faults = append(faults, "the service "+name+" "+fault)
		}
		for variable, value := range service.Environment {
			if value != nil && strings.Contains(*value, "${") {
				faults = append(faults, "the service "+name+" leaves "+variable+" open")
			}
		}
	}
	sidecar, found := project.Services["logline"]
	switch {
	case !found:
		faults = append(faults, "there is no service logline")
	case sidecar.StopGracePeriod == nil || sidecar.StopGracePeriod.String() < "11s":
		faults = append(faults, "the sidecar is given less than LOGLINE_DRAIN_MS to stop")
	case sidecar.Environment["LOGLINE_NODE"] == nil || *sidecar.Environment["LOGLINE_NODE"] != "a":
		faults = append(faults, "the environment does not reach the sidecar")
	case sidecar.Environment["LOGLINE_WORKERS"] != nil:
		faults = append(faults, "a variable that is not set reaches the sidecar")
	}
	slices.Sort(faults)
	return faults, nil
}

// softness says what a service may do that none of ours needs.
func softness(service types.ServiceConfig) string {
	switch {
	case !service.ReadOnly:
		return "may write to its root"
	case !slices.Equal(service.CapDrop, []string{"ALL"}):
		return "keeps capabilities"
	case !slices.Contains(service.SecurityOpt, "no-new-privileges:true"):
		return "may gain privileges"
	case service.Privileged:
		return "is privileged"
	case strings.HasPrefix(service.Image, "logline:") && len(service.CapAdd) > 0:
		return "adds capabilities"
	}
	for _, option := range service.SecurityOpt {
		if strings.Contains(option, "unconfined") {
			return "has no seccomp profile"
		}
	}
	return ""
}

// app is what this project uses of fly.toml; a key that is not here is a slip, or belongs here.
type app struct {
	App            string
	PrimaryRegion  string `toml:"primary_region"`
	KillSignal     string `toml:"kill_signal"`
	KillTimeout    string `toml:"kill_timeout"`
	Build          struct{ Dockerfile, Ignorefile string }
	Env, Processes map[string]string
	Deploy         struct{ Strategy string }
	Restart        []struct {
		Policy    string
		Processes []string
	}
	Checks map[string]struct {
		Type, Method, Path, Interval, Timeout string
		Port                                  int
		GracePeriod                           string `toml:"grace_period"`
		Processes                             []string
	}
	Metrics struct {
		Port int
		Path string
	}
	VM []struct {
		Memory    string
		CPUKind   string `toml:"cpu_kind"`
		CPUs      int
		Processes []string
	}
}

// tomlFile parses fly.toml and holds its process, port and check together.
func tomlFile(files []string) (faults []string, err error) {
	var a app
	read, err := toml.DecodeFile(files[0], &a)
	if err != nil {
		return nil, err
	}
	for _, key := range read.Undecoded() {
		faults = append(faults, "unknown key "+key.String())
	}
	check := a.Checks["alive"]
	if a.Env["LOGLINE_LISTEN"] != fmt.Sprintf(":%d", check.Port) || a.Metrics.Port != check.Port ||
		check.Path != "/healthz" {
		faults = append(faults, "the check does not ask where the sidecar listens")
	}
	for _, processes := range [][]string{check.Processes, a.Restart[0].Processes, a.VM[0].Processes} {
		if len(processes) != 1 || a.Processes[processes[0]] != "serve" {
			faults = append(faults, fmt.Sprintf("%v are not the processes that serve", processes))
		}
	}
	return faults, nil
}

// decodeStrictly refuses keys that the type does not have.
func decodeStrictly(file string, into any) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	return decoder.Decode(into)
}

// task reads what `aws ecs register-task-definition --cli-input-json` reads.
func task(files []string) (faults []string, err error) {
	var definition ecs.RegisterTaskDefinitionInput
	if err := decodeStrictly(files[0], &definition); err != nil {
		return nil, err
	}
	known := func(ok bool, what string) {
		if !ok {
			faults = append(faults, what)
		}
	}
	known(definition.Family != nil, "want a family")
	known(len(definition.ContainerDefinitions) == 1, "want one container")
	known(slices.Contains(definition.NetworkMode.Values(), definition.NetworkMode), "unknown network mode")
	for _, c := range definition.RequiresCompatibilities {
		known(slices.Contains(c.Values(), c), "unknown compatibility "+string(c))
	}
	if p := definition.RuntimePlatform; p != nil {
		known(slices.Contains(p.CpuArchitecture.Values(), p.CpuArchitecture), "unknown machine")
		known(slices.Contains(p.OperatingSystemFamily.Values(), p.OperatingSystemFamily), "unknown system")
	}
	if len(faults) > 0 {
		return faults, nil
	}
	return append(faults, container(definition.ContainerDefinitions[0])...), nil
}

func container(c ecstypes.ContainerDefinition) (faults []string) {
	if c.ReadonlyRootFilesystem == nil || !*c.ReadonlyRootFilesystem || c.User == nil || *c.User == "root" {
		faults = append(faults, "the container may write to its root, or is root")
	}
	if c.HealthCheck == nil || !slices.Equal(c.HealthCheck.Command, []string{"CMD", "/logline", "health"}) {
		faults = append(faults, "the health check is not the binary's")
	}
	if c.StopTimeout == nil || *c.StopTimeout < 11 {
		faults = append(faults, "the container is given less than LOGLINE_DRAIN_MS to stop")
	}
	if l := c.LogConfiguration; l == nil || !slices.Contains(l.LogDriver.Values(), l.LogDriver) {
		faults = append(faults, "unknown log driver")
	}
	for _, pair := range c.Environment {
		if strings.Contains(*pair.Name, "URL") || strings.Contains(*pair.Name, "KEY") {
			faults = append(faults, *pair.Name+" is no secret")
		}
	}
	return faults
}

// parameters reads what `aws rds modify-db-parameter-group --parameters file://` reads.
func parameters(files []string) (faults []string, err error) {
	var list []rdstypes.Parameter
	if err := decodeStrictly(files[0], &list); err != nil {
		return nil, err
	}
	for _, p := range list {
		isKnown := slices.Contains(p.ApplyMethod.Values(), p.ApplyMethod)
		if p.ParameterName == nil || p.ParameterValue == nil || !isKnown {
			faults = append(faults, "a parameter lacks its name, value or method")
		}
	}
	if len(list) == 0 {
		faults = append(faults, "no parameter")
	}
	return faults, nil
}
