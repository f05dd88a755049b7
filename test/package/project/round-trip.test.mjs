import * as volseal from 'volseal';
import roundTrip from './round-trip.cjs';

// Jest and vitest both have it.
test('a round trip, and a failure with its code', () => roundTrip(volseal));
