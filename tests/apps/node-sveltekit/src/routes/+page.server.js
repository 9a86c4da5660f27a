export function load() {
	return { name: 'SvelteKit on the server' };
}
