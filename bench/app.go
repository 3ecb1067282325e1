package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
)

// hosted is the folder that the site's host runs: what ships, or a copy of it
// whose host.json has other settings.
func (s *site) hosted() (string, error) {
	if s.serviceBus == nil {
		return s.b.app(), nil
	}
	dir := filepath.Join(s.dir, "app")
	if err := os.CopyFS(dir, os.DirFS(s.b.app())); err != nil {
		return "", fmt.Errorf("copy the app: %w", err)
	}
	path := filepath.Join(dir, "host.json")
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("change host.json: %w", err)
	}
	if text, err = withServiceBus(text, s.serviceBus); err != nil {
		return "", fmt.Errorf("change host.json: %w", err)
	}
	return dir, os.WriteFile(path, text, 0o644)
}

// withServiceBus gives a host.json with other settings for Service Bus. One
// that host.json does not have is an error: it would change nothing.
func withServiceBus(hostJSON []byte, settings map[string]any) ([]byte, error) {
	var file map[string]any
	if err := json.Unmarshal(hostJSON, &file); err != nil {
		return nil, err
	}
	extensions, _ := file["extensions"].(map[string]any)
	serviceBus, _ := extensions["serviceBus"].(map[string]any)
	for name := range settings {
		if _, known := serviceBus[name]; !known {
			return nil, fmt.Errorf("it has no serviceBus setting %q", name)
		}
	}
	maps.Copy(serviceBus, settings)
	return json.MarshalIndent(file, "", "  ")
}
