// loopback.cjs — makes a Node.js server that has no option for its address listen on loopback only.
// Loaded with node --require, before the server's own code.
'use strict';
const net = require('node:net');

const listen = net.Server.prototype.listen;

net.Server.prototype.listen = function (...given) {
	const first = given[0];
	if (first !== null && typeof first === 'object' && 'port' in first)
		given[0] = {...first, host: '127.0.0.1'};
	else if (typeof first === 'number' || /^[0-9]+$/.test(String(first))) {
		const rest = given.slice(typeof given[1] === 'string' ? 2 : 1);
		given = [{port: Number(first), host: '127.0.0.1'},
			...rest.filter((argument) => typeof argument === 'function')];
	}
	return listen.apply(this, given);
};
