import * as volseal from 'volseal';
import roundTrip from './round-trip.cjs';

await roundTrip(volseal);
